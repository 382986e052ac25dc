"""The rest of scvi-tools' contract: traps that its own models fall into, and small promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scvi.model.base import ArchesMixin

from scgenemamba import GeneMambaModel
from tests.conftest import make_adata

from .conftest import TINY


def test_all_init_parameters_are_kept(adata):
    """Parameters hidden in **kwargs of a subclass would be lost on loading; there are none."""
    GeneMambaModel.setup_anndata(adata)
    kept = GeneMambaModel(adata, **TINY, kl_weight=0.5).init_params_
    assert kept["kwargs"] == {}
    assert kept["non_kwargs"]["kl_weight"] == 0.5
    assert {"preset", "n_layers", "d_model", "fusion", "pooling", "backend"} <= set(kept["non_kwargs"])


def test_query_loading_that_freezes_everything_is_not_inherited():
    """ArchesMixin freezes whatever is not an FCLayers, that is all of our encoder."""
    assert not issubclass(GeneMambaModel, ArchesMixin)


def test_a_last_batch_of_one_cell_trains(fit):
    model = fit(make_adata(n_cells=129), train={"batch_size": 128, "train_size": 1.0})
    assert np.isfinite(model.history["train_loss"].to_numpy()).all()


def test_setting_adata(trained, tmp_path):
    trained.save(tmp_path / "model")
    model = GeneMambaModel.load(tmp_path / "model", make_adata())
    other = make_adata(n_cells=40, seed=3)
    model.adata = other
    assert model.get_latent_representation().shape == (40, TINY["n_latent"])


def test_setting_up_again_does_not_disturb_a_model(adata, fit):
    model = fit(adata, setup={"batch_key": "batch", "labels_key": "cell_type"})
    before = model.get_latent_representation()
    GeneMambaModel.setup_anndata(adata)
    np.testing.assert_array_equal(model.get_latent_representation(), before)


def test_two_models_of_different_length_share_an_anndata(adata):
    GeneMambaModel.setup_anndata(adata)
    models = [GeneMambaModel(adata, **{**TINY, "max_tokens": n}) for n in (4, 20)]
    for model in models:
        model.train(max_epochs=1, enable_progress_bar=False)
    for model, n in zip(models, (4, 20), strict=True):
        batch = next(iter(model._make_data_loader(adata, batch_size=8)))
        assert int(model.module.truncate(batch)["cu_seqlens"].diff().max()) == n


def test_training_again_trains_in_training_mode(trained, tmp_path):
    trained.save(tmp_path / "model")
    model = GeneMambaModel.load(tmp_path / "model", make_adata())
    seen = []
    # embedding the cells for the annotation, after training, is no training
    model.module.network.register_forward_pre_hook(
        lambda module, _: seen.append(module.training) if torch.is_grad_enabled() else None
    )
    model.train(max_epochs=1, train_size=1.0, enable_progress_bar=False)
    assert seen
    assert all(seen)


def test_empty_indices_are_refused(trained):
    with pytest.raises(ValueError, match="no cells"):
        trained.get_latent_representation(indices=[])


@pytest.mark.parametrize("fusion", ["sum", "gate", "concat"])
@pytest.mark.parametrize("pooling", [("cls",), ("mean",), ("cls", "max")])
def test_other_architectures_train_save_and_load(fit, tmp_path, fusion, pooling):
    model = fit(make_adata(n_cells=40), fusion=fusion, pooling=pooling)
    model.save(tmp_path / "model")
    loaded = GeneMambaModel.load(tmp_path / "model", make_adata(n_cells=40))
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())
