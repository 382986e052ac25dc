"""What new models start from: prior, alignment, learning rate; and that older files stay what they were."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.distributions import Normal

from scgenemamba import GeneMambaModel
from tests.conftest import make_adata

from .conftest import TINY
from .test_saving import FIXTURE

PRIOR = "objectives.counts.prior."


@pytest.fixture
def registered(adata):
    GeneMambaModel.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    return adata


def quick_train(model, **arguments):
    model.train(**{"max_epochs": 1, "batch_size": 32, "enable_progress_bar": False, **arguments})
    return model


def is_standard_normal(model):
    z = torch.randn(5, model.module.config.n_latent)
    return torch.allclose(model.module.objectives["counts"].prior.log_prob(z), Normal(0.0, 1.0).log_prob(z).sum(1))


def test_prior_and_alignment_are_part_of_the_training(trained):
    assert trained.objectives_[:3] == ["counts given batch", "batch alignment", "masked genes"]
    curve = trained.history["batch_alignment_train"].iloc[:, 0]
    assert np.isfinite(curve).all()
    assert curve.iloc[0] == 0
    assert curve.iloc[-1] != 0
    prior = trained.module.objectives["counts"].prior
    assert not is_standard_normal(trained)
    assert float(prior.log_scales.detach().abs().max()) > 0
    assert not [name for name in trained.module.state_dict() if "alignment" in name]


def test_early_stopping_sees_the_alignment_and_leaves_the_queue_alone(registered):
    model = quick_train(GeneMambaModel(registered, **TINY), max_epochs=4, early_stopping=True)
    assert model.history["batch_alignment_validation"].iloc[-1, 0] != 0
    parts = [model.history[f"{name}_validation"] for name in ("reconstruction_loss", "kl", "batch_alignment")]
    parts += [model.history[f"{name}_validation"] for name in ("masked_genes", "cell_type")]
    total = sum(part.iloc[:, 0] for part in parts)
    np.testing.assert_allclose(total, model.history["validation_loss"].iloc[:, 0], rtol=1e-5)
    # an epoch and the next step are the reference of the counterparts
    n_train = len(model.train_indices)
    assert n_train < 120 <= n_train + 32
    assert model.module.objectives["batch_alignment"].n_seen == 3 * n_train - 32


def test_the_rest_starts_from_the_same_random_numbers(registered):
    def start(**arguments):
        torch.manual_seed(0)
        state = GeneMambaModel(registered, **TINY, **arguments).module.state_dict()
        return {name: value for name, value in state.items() if not name.startswith(PRIOR)}

    with_both, without = start(), start(prior="normal", alignment_weight=0.0)
    assert with_both.keys() == without.keys()
    assert all(torch.equal(value, without[name]) for name, value in with_both.items())


@pytest.mark.parametrize(
    ("arguments", "setup"),
    [({"alignment_weight": 0.0}, {"batch_key": "batch"}), ({"n_decoder_genes": 0}, {"batch_key": "batch"}), ({}, {})],
)
def test_no_alignment_without_need(adata, arguments, setup):
    GeneMambaModel.setup_anndata(adata, **setup)
    assert "batch_alignment" not in GeneMambaModel(adata, **TINY, **arguments).module.objectives


def test_unknown_prior_is_named(registered):
    with pytest.raises(ValueError, match="Unknown prior 'flat'; choose 'mixture' or 'normal'"):
        GeneMambaModel(registered, **TINY, prior="flat")


def test_the_standard_normal_prior_can_be_asked_for(registered, tmp_path):
    model = quick_train(GeneMambaModel(registered, **TINY, prior="normal"))
    model.save_pretrained(tmp_path)
    assert GeneMambaModel.from_pretrained(tmp_path).module.objectives["counts"].prior is None


@pytest.mark.parametrize(("width", "expected"), [(32, 3e-3), (128, 3e-3), (256, 1.5e-3), (512, 7.5e-4)])
def test_learning_rate_follows_the_width(registered, width, expected):
    model = GeneMambaModel(registered, **{**TINY, "d_model": width})
    assert model._plan_defaults == {"lr": pytest.approx(expected)}


def test_learning_rate_of_a_training(registered, tmp_path):
    model = quick_train(GeneMambaModel(registered, **TINY))
    assert model.trainer.lightning_module.lr == 3e-3
    assert quick_train(model, plan_kwargs={"lr": 2e-4}).trainer.lightning_module.lr == 2e-4
    assert quick_train(model, plan_config={"lr": 4e-4, "seed": 7}).trainer.lightning_module.lr == 4e-4
    assert model.trainer.lightning_module.seed == 7
    model.save(tmp_path / "model")
    loaded = GeneMambaModel.load(tmp_path / "model", registered)
    assert quick_train(loaded).trainer.lightning_module.lr == 3e-3


def test_pretrained_encoders_keep_the_learning_rate_of_the_plan(trained, registered, tmp_path):
    trained.save_pretrained(tmp_path)
    assert quick_train(GeneMambaModel.from_pretrained(tmp_path, registered)).trainer.lightning_module.lr == 1e-3
    query = make_adata(seed=5)
    query.obs["batch"] = "new"
    mapped = quick_train(GeneMambaModel.load_query_data(query, trained))
    assert mapped.trainer.lightning_module.lr == 1e-3
    # the encoder is frozen: there is nothing to align
    assert mapped.history["batch_alignment_train"].iloc[-1, 0] == 0


def test_a_mapped_query_can_be_aligned(trained):
    query = make_adata(seed=5)
    query.obs["batch"] = ["new1", "new2"] * (query.n_obs // 2)
    model = quick_train(GeneMambaModel.load_query_data(query, trained, unfrozen=True), max_epochs=3)
    assert model.history["batch_alignment_train"].iloc[-1, 0] != 0


def test_a_file_saved_before_the_mixture_has_a_standard_normal_prior(adata):
    model = GeneMambaModel.load(FIXTURE, adata)
    assert is_standard_normal(model)
    quick_train(model)


def test_a_file_saved_before_the_width_was_an_argument_keeps_its_decoder(adata, tmp_path):
    model = GeneMambaModel.load(FIXTURE, adata)
    assert model.module.objectives["counts"].n_hidden == 128
    model.save_pretrained(tmp_path)
    query = make_adata(seed=5)
    query.obs["batch"] = "new"
    for later in (GeneMambaModel.from_pretrained(tmp_path), GeneMambaModel.load_query_data(query, model)):
        assert later.module.objectives["counts"].n_hidden == 128


def make_older(folder):
    """What an earlier version would have written."""
    config = json.loads((folder / "config.json").read_text())
    for part in config["init"].values():
        for name in ("prior", "alignment_weight", "n_hidden"):
            part.pop(name, None)
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {name: value for name, value in tensors.items() if not name.startswith(PRIOR)}, folder / "model.safetensors"
    )


def test_an_older_checkpoint_stays_what_it_was(registered, tmp_path):
    trained = quick_train(GeneMambaModel(registered, n_hidden=128, **TINY))
    trained.save_pretrained(tmp_path)
    make_older(tmp_path)
    model = GeneMambaModel.from_pretrained(tmp_path)
    assert model.module.objectives["counts"].prior is None
    assert "batch_alignment" not in model.module.objectives
    adata = make_adata()
    np.testing.assert_array_equal(model.get_latent_representation(adata), trained.get_latent_representation())
    query = make_adata(seed=5)
    query.obs["batch"] = "new"
    assert quick_train(GeneMambaModel.load_query_data(query, tmp_path)).module.objectives["counts"].prior is None


def test_a_checkpoint_that_lost_its_prior_is_refused(trained, tmp_path):
    trained.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if not name.startswith(PRIOR)}
    save_file(kept, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=f"3 tensors are missing: {PRIOR}log_scales"):
        GeneMambaModel.from_pretrained(tmp_path)
