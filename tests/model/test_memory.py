"""What training needs of memory: the estimate against what is really allocated, and what follows from it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scvi
import torch
from torch.profiler import ProfilerActivity, profile

from scgenemamba import GeneMambaModel
from scgenemamba.model import _memory
from scgenemamba.model._memory import (
    TrainingMemory,
    measure_training,
    out_of_memory_advice,
    plan_training,
    tokens_of_batch,
)
from scgenemamba.nn import BiMambaEncoder, GeneMambaConfig
from scgenemamba.tokens import CellBatch
from scgenemamba.train import CellRandom, GeneMambaTrainingPlan
from tests.conftest import make_adata

CPU = torch.device("cpu")
LENGTHS = np.array([100, 200, 300])
MEMORY = TrainingMemory(fixed=1e6, ends=10, layer=1000, layer_input=100, n_layers=10, tokens_at_once=500)


def allocated_by_a_step(model: GeneMambaModel, batch: CellBatch) -> int:
    """Largest sum of what a training step allocates and has not freed yet."""
    plan = GeneMambaTrainingPlan(model.module.train())
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        plan.losses(batch, CellRandom(0, 0))[1].backward()
    events = record.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    return int(np.cumsum([change for _, change in changes]).max())


@pytest.mark.slow
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(("preset", "n_cells"), [("tiny", 32), ("small", 16), ("small", 48), ("medium", 12)])
def test_the_estimate_is_near_what_is_allocated(preset, n_cells, recompute):
    adata = make_adata(n_cells=n_cells, n_genes=1200)
    GeneMambaModel.setup_anndata(adata)
    model = GeneMambaModel(adata, preset=preset)
    model.module.network.encoder.recompute = recompute
    parameters = sum(p.numel() for p in model.module.parameters())
    memory = measure_training(model.module.network.encoder, parameters, CPU)
    batch = model.adata_manager.create_torch_dataset()[np.arange(n_cells)]
    n_tokens = len(model.module.truncate(batch)["tokens"])
    estimated = memory(n_tokens, recompute=recompute)
    # weights and the state of the optimiser are not allocated by a first step
    measured = allocated_by_a_step(model, batch) + 12 * parameters
    assert 1 / 1.5 < estimated / measured < 1.5


def test_measuring_changes_no_random_numbers():
    encoder = BiMambaEncoder(GeneMambaConfig(n_tokens=10, d_model=32))
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    measure_training(encoder, 10, CPU)
    assert torch.equal(torch.rand(3), expected)


def test_tokens_of_a_batch_are_at_most_those_of_its_longest_cells():
    assert tokens_of_batch(LENGTHS, 1) == 300
    assert 128 * 200 < tokens_of_batch(LENGTHS, 128) < 1.15 * 128 * 200


def test_memory_decides_about_recomputation_first_and_the_batch_size_last():
    tokens = tokens_of_batch(LENGTHS, 128)
    plenty = plan_training(MEMORY, LENGTHS, "auto", 2 * MEMORY(tokens, recompute=False))
    assert (plenty.batch_size, plenty.recompute, plenty.fits) == (128, False, True)
    less = plan_training(MEMORY, LENGTHS, "auto", 2 * MEMORY(tokens, recompute=True))
    assert (less.batch_size, less.recompute, less.fits) == (128, True, True)
    little = plan_training(MEMORY, LENGTHS, "auto", 0.5 * MEMORY(tokens, recompute=True))
    assert little.fits and little.batch_size in (16, 32, 64)
    none = plan_training(MEMORY, LENGTHS, "auto", 10)
    assert (none.batch_size, none.fits) == (1, False)
    unknown = plan_training(MEMORY, LENGTHS, "auto", math.inf)
    assert (unknown.batch_size, unknown.recompute) == (128, False)


def test_a_given_batch_size_is_kept():
    assert plan_training(MEMORY, LENGTHS, 512, math.inf).batch_size == 512
    plan = plan_training(MEMORY, LENGTHS, 512, 10)
    assert (plan.batch_size, plan.recompute, plan.fits) == (512, True, False)


def test_the_user_is_told_before_training_that_it_will_not_fit(adata, monkeypatch, fit):
    monkeypatch.setattr(_memory, "available_bytes", lambda device: 1e6)
    with pytest.warns(UserWarning, match=r"batch_size=32 needs about 0\.\d GB, but 0\.0 GB are free on cpu.*'auto'"):
        fit(adata)


def test_recomputation_changes_no_result(monkeypatch, fit):
    latents = []
    monkeypatch.setattr(_memory, "warn", lambda message: None)
    for available in (1e12, 1e6):
        monkeypatch.setattr(_memory, "available_bytes", lambda device, free=available: free)
        scvi.settings.seed = 0
        model = fit(make_adata())
        assert model.module.network.encoder.recompute == (available < 1e9)
        latents.append(model.get_latent_representation())
    np.testing.assert_allclose(*latents, atol=1e-5)


def test_the_automatic_batch_size_is_told_and_taken(adata, monkeypatch, fit, messages):
    monkeypatch.setattr(_memory, "available_bytes", lambda device: 15e6)
    model = fit(adata, train={"batch_size": "auto"})
    size = model.trainer.datamodule.data_loader_kwargs["batch_size"]
    assert size < 128
    assert f"Batches of {size} cells: 128 need" in " ".join(messages)


@pytest.mark.parametrize("batch_size", [0, -1, None, "large", 2.5])
def test_a_batch_size_that_is_none_is_refused(adata, fit, batch_size):
    with pytest.raises(ValueError, match="'auto' or a positive number"):
        fit(adata, train={"batch_size": batch_size})


def test_free_memory_is_known():
    assert 1e7 < _memory.available_bytes(CPU) < math.inf


def test_errors_of_memory_say_what_to_do():
    cuda, cpu = torch.cuda.OutOfMemoryError("CUDA out of memory."), RuntimeError("DefaultCPUAllocator: can't")
    for error in (cuda, cpu):
        with pytest.raises((RuntimeError, MemoryError), match=r"Training ran out of memory\. Use less\.\n"):
            with out_of_memory_advice("Training", "Use less."):
                raise error
    with pytest.raises(RuntimeError, match="^other$"):
        with out_of_memory_advice("Training", "Use less."):
            raise RuntimeError("other")
