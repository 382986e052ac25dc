"""Training on files, from setup to embedding, and going on after an interruption."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scvi
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from scgenemamba import GeneMambaModel

from .conftest import TINY

pytest.importorskip("boost_histogram")


@pytest.fixture
def paths(cell_files):
    return cell_files


def new(paths, **options):
    scvi.settings.seed = 0
    cells = GeneMambaModel.setup_files(paths, batch_size=32, held_out=0.1, **options)
    return cells, GeneMambaModel(registry=cells.registry, **TINY)


QUICK = {"enable_progress_bar": False, "logger": False}


def test_a_model_of_files_is_a_normal_model(paths, tmp_path):
    cells, model = new(paths)
    assert cells.n_obs == 576
    assert len(model.vocabulary) == 60
    model.train(datamodule=cells, max_epochs=4, check_val_every_n_epoch=1, enable_progress_bar=False)
    for stage in ("train", "validation"):
        values = model.history[f"masked_genes_{stage}"].to_numpy().ravel()
        assert len(values) == 4
        assert values[-1] < values[0]
    adata = ad.read_h5ad(paths[1])
    states = model.get_latent_representation(adata)
    assert states.shape == (320, 64)
    model.save_pretrained(tmp_path / "model")
    again = GeneMambaModel.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(again.get_latent_representation(adata), states)
    # and is fine-tuned on labelled cells
    adata.obs["batch"], adata.obs["cell_type"] = "one", np.where(np.arange(320) % 2, "x", "y")
    GeneMambaModel.setup_anndata(adata, labels_key="cell_type")
    tuned = GeneMambaModel.from_pretrained(tmp_path / "model", adata)
    tuned.train(max_epochs=1, **QUICK)
    assert set(tuned.predict()) <= {"x", "y"}


def test_pathways_take_part(paths):
    cells, model = new(paths)
    sets = {"a": [f"GENE{i}" for i in range(10)], "b": [f"GENE{i}" for i in range(30, 45)]}
    model.train(datamodule=cells, max_epochs=1, gene_sets=sets, enable_progress_bar=False)
    assert model.history["pathway_train"].iloc[0, 0] > 0


class Recorder(Callback):
    """Cells of each step; may stop in the middle, as a power cut would."""

    def __init__(self, stop_at=None):
        self.cells, self.stop_at = [], stop_at

    def on_train_batch_end(self, trainer, plan, outputs, batch, batch_idx):
        self.cells.append((trainer.current_epoch, batch["cell"].tolist()))
        if trainer.global_step == self.stop_at:
            raise KeyboardInterrupt


def run(paths, folder, stop_at=None, ckpt_path=None):
    cells, model = new(paths)
    recorder = Recorder(stop_at)
    save = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=5, save_top_k=-1)
    options = {"ckpt_path": ckpt_path} if ckpt_path else {}
    try:
        model.train(
            datamodule=cells, max_epochs=2, callbacks=[recorder, save], enable_checkpointing=True, **options, **QUICK
        )
    except (KeyboardInterrupt, SystemExit):
        pass
    return model, recorder.cells


@pytest.mark.parametrize(("stop_at", "kept"), [(7, 5), (18, 15), (23, 20)])
def test_after_an_interruption_nothing_is_lost_or_seen_twice(paths, tmp_path, monkeypatch, stop_at, kept):
    """18 steps an epoch; the weights end up bit by bit the same."""
    monkeypatch.setattr(scvi.settings, "logging_dir", tmp_path / "logs")
    whole, steps = run(paths, tmp_path / "whole")
    assert len(steps) == 36
    for epoch in (0, 1):
        seen = sum((cells for e, cells in steps if e == epoch), [])
        assert len(seen) == len(set(seen)) == 576
    run(paths, tmp_path / "cut", stop_at=stop_at)
    (checkpoint,) = (tmp_path / "cut").glob(f"*step={kept}.ckpt")
    again, rest = run(paths, tmp_path / "again", ckpt_path=str(checkpoint))
    assert rest == steps[kept:]
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, again.module.state_dict()[name]), name


def test_further_cells_are_validated_under_their_names(paths):
    cells, model = new(paths[:1], validation={"other": paths[1]})
    model.train(datamodule=cells, max_epochs=2, check_val_every_n_epoch=1, enable_progress_bar=False)
    for name in (
        "validation_loss",
        "masked_genes_validation",
        "validation_loss_other",
        "masked_genes_validation_other",
    ):
        assert len(model.history[name]) == 2
    # genes that training does not know are no tokens
    assert len(model.vocabulary) == 40
    (batch, *_) = cells.val_dataloader()[1]
    assert int(batch["tokens"].max()) < model.vocabulary.n_tokens


def test_a_pretrained_model_keeps_its_genes_and_factors(paths):
    cells, model = new(paths[:1])
    model.train(datamodule=cells, max_epochs=1, **QUICK)
    more = GeneMambaModel.setup_files(paths[1], model=model, batch_size=32)
    assert more.registry is model.registry_
    np.testing.assert_array_equal(more.found.medians, cells.found.medians)
    before = model.module.network.encoder.embeddings.weight.detach().clone()
    model.train(datamodule=more, max_epochs=1, **QUICK)
    assert not torch.equal(before, model.module.network.encoder.embeddings.weight)


def test_co_expressed_genes_of_files(paths):
    cells, model = new(paths)
    counts = cells.expression(100)
    assert counts.shape == (128, model.vocabulary.n_tokens)
    model.train(datamodule=cells, max_epochs=1, gene_sets="coexpression", enable_progress_bar=False)
    assert model.history["pathway_train"].iloc[0, 0] > 0


def test_what_no_loss_reaches_is_not_trained(paths):
    """Several processes would wait for its gradients."""
    cells, model = new(paths)

    class Reached(Callback):
        def on_after_backward(self, trainer, plan):
            self.missing = [n for n, p in plan.named_parameters() if p.requires_grad and p.grad is None]

    reached = Reached()
    model.train(datamodule=cells, max_epochs=1, callbacks=[reached], **QUICK)
    assert reached.missing == []
    assert all(parameter.requires_grad for parameter in model.module.parameters())
