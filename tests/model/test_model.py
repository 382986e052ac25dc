"""The user's six lines, returns, and what scvi-tools tests of its own models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scvi
import torch

from scgenemamba import GeneMambaModel
from tests.conftest import make_adata

from .conftest import TINY


def test_readme_snippet(adata):
    """The six lines of README, as they stand."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    snippets = [part.split("```")[0] for part in readme.split("```python\n")[1:]]
    snippet = next(text for text in snippets if "model.train()" in text)
    exec(snippet, {"adata": adata, "sc": sc})
    assert adata.obsm["X_genemamba"].shape == (adata.n_obs, 32)
    assert set(adata.obs["pred"]) <= set(adata.obs["cell_type"])


def test_latent(trained):
    latent = trained.get_latent_representation()
    assert latent.dtype == np.float32
    assert latent.shape == (trained.adata.n_obs, TINY["n_latent"])
    assert np.isfinite(latent).all()
    some = trained.get_latent_representation(indices=[5, 2, 2, 9])
    np.testing.assert_allclose(some, latent[[5, 2, 2, 9]], atol=1e-5 * abs(latent).max())


def test_predict_returns_what_scanvi_returns(trained):
    hard = trained.predict(indices=[3, 1])
    assert isinstance(hard, np.ndarray)
    assert hard.shape == (2,)
    soft = trained.predict(indices=[3, 1], soft=True)
    assert isinstance(soft, pd.DataFrame)
    assert list(soft.index) == ["cell3", "cell1"]
    assert list(soft.columns) == ["type0", "type1", "type2"]
    np.testing.assert_allclose(soft.sum(1), 1, atol=1e-5)
    assert (soft.columns[soft.to_numpy().argmax(1)] == hard).all()


def test_training_learns_the_types():
    scvi.settings.seed = 0
    adata = make_adata(n_cells=300, n_genes=80)
    GeneMambaModel.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    model = GeneMambaModel(adata, **TINY)
    model.train(max_epochs=25, batch_size=32, plan_kwargs={"lr": 3e-3}, enable_progress_bar=False)
    held_out = model.validation_indices
    truth = adata.obs["cell_type"].to_numpy()[held_out]
    assert (model.predict(indices=held_out) == truth).mean() > 0.8
    assert model.history["train_loss"].iloc[-1, 0] < model.history["train_loss"].iloc[0, 0]


def test_history_is_frames_for_the_user_and_lists_in_the_file(trained):
    assert {"train_loss", "reconstruction_loss_train", "kl_train", "masked_genes_train", "cell_type_train"} <= set(
        trained.history
    )
    assert isinstance(trained.history["train_loss"], pd.DataFrame)
    assert isinstance(trained.history_["train_loss"]["value"], list)
    assert len(trained.history["train_loss"]) == 3


def test_training_twice_continues_the_history(adata, fit):
    model = fit(adata, train={"max_epochs": 2})
    model.train(max_epochs=1, batch_size=32, enable_progress_bar=False)
    assert model.history["train_loss"].index.tolist() == [0, 1, 2]


def test_seed_makes_training_reproducible(fit):
    results = []
    for _ in range(2):
        scvi.settings.seed = 7
        model = fit(make_adata(), setup={"batch_key": "batch"}, train={"max_epochs": 2})
        results.append(model.get_latent_representation())
    assert np.array_equal(results[0], results[1])
    scvi.settings.seed = 8
    other = fit(make_adata(), setup={"batch_key": "batch"}, train={"max_epochs": 2}).get_latent_representation()
    assert not np.allclose(results[0], other)


def test_unsupervised_embedding_is_the_one_without_labels(fit):
    latents = []
    for setup, train in (({}, {}), ({"labels_key": "cell_type"}, {"supervised": False})):
        scvi.settings.seed = 3
        model = fit(make_adata(), setup={"batch_key": "batch", **setup}, train={"max_epochs": 3, **train})
        latents.append(model.get_latent_representation())
    assert np.array_equal(latents[0], latents[1])
    # and its classifier is trained all the same
    values = model.history["cell_type_train"].iloc[:, 0]
    assert values.iloc[-1] < values.iloc[0]


def test_labels_shape_the_embedding_when_supervised(fit):
    latents = []
    for supervised in (False, True):
        scvi.settings.seed = 3
        model = fit(make_adata(), setup={"labels_key": "cell_type"}, train={"supervised": supervised})
        latents.append(model.get_latent_representation())
    assert not np.allclose(latents[0], latents[1])


def test_active_objectives_are_kept(adata, fit):
    model = fit(adata, setup={"labels_key": "cell_type"}, train={"supervised": False})
    assert model.objectives_ == ["counts given batch", "masked genes", "cell type (on the finished embedding)"]


def test_supervised_without_labels_is_refused(adata, fit):
    with pytest.raises(ValueError, match="needs labels"):
        fit(adata, train={"supervised": True})
    model = fit(make_adata())
    with pytest.raises(ValueError, match="no labels"):
        model.predict()


def test_early_stopping(adata, fit):
    train = {"max_epochs": 40, "early_stopping": True, "early_stopping_patience": 1, "early_stopping_min_delta": 1e6}
    model = fit(adata, train=train)
    assert len(model.history["validation_loss"]) < 40


def test_early_stopping_without_validation_cells_is_refused(adata, fit):
    with pytest.raises(ValueError, match="validation"):
        fit(adata, train={"early_stopping": True, "train_size": 1.0})


def test_untrained_model_does_not_embed(adata):
    GeneMambaModel.setup_anndata(adata)
    with pytest.raises(RuntimeError):
        GeneMambaModel(adata, **TINY).get_latent_representation()


def test_unregistered_anndata_is_refused(adata):
    with pytest.raises(ValueError, match="setup_anndata"):
        GeneMambaModel(adata)


def test_covariates_and_size_factor_reach_the_decoder_only(fit):
    adata = make_adata()
    adata.obs["donor"] = [f"d{i % 3}" for i in range(adata.n_obs)]
    adata.obs["age"] = np.linspace(0, 1, adata.n_obs)
    adata.obs["size"] = np.asarray(adata.X.sum(1)).ravel()
    setup = {
        "categorical_covariate_keys": ["donor"],
        "continuous_covariate_keys": ["age"],
        "size_factor_key": "size",
    }
    model = fit(adata, setup=setup)
    latent = model.get_latent_representation()
    bare = make_adata()
    np.testing.assert_allclose(model.get_latent_representation(bare), latent, atol=1e-5 * abs(latent).max())


def test_gene_embeddings(trained):
    table = trained.get_gene_embeddings()
    assert table.shape == (len(trained.vocabulary), TINY["d_model"])
    assert list(table.index) == sorted(table.index)


def test_repr_is_a_string(trained):
    assert "1 layers x 32" in repr(trained)
    assert repr(trained).endswith("trained")
    trained.view_anndata_setup()


def test_custom_dataloader(trained):
    loader = trained._make_data_loader(trained.adata, indices=[1, 2, 3], batch_size=2)
    np.testing.assert_allclose(
        trained.get_latent_representation(dataloader=loader),
        trained.get_latent_representation(indices=[1, 2, 3]),
        atol=1e-5,
    )
    with pytest.raises(ValueError, match="dataloader"):
        trained.get_latent_representation(trained.adata, dataloader=loader)


def test_plain_scvi_dataloader_yields_token_batches(trained):
    loader = scvi.dataloaders.AnnDataLoader(
        trained.adata_manager, indices=[4, 0], batch_size=2, load_sparse_tensor=True
    )
    latent = trained.get_latent_representation(dataloader=loader)
    np.testing.assert_allclose(latent, trained.get_latent_representation(indices=[4, 0]), atol=1e-5)


def test_external_indexing(adata, fit):
    indexing = [np.arange(80), np.arange(80, 100), np.arange(100, 120)]
    model = fit(adata, train={"datasplitter_kwargs": {"external_indexing": indexing}})
    assert model.test_indices.tolist() == list(range(100, 120))


def test_workers_do_not_change_training(fit):
    latents = []
    for workers in (0, 1):
        scvi.settings.seed = 0
        model = fit(make_adata(), train={"datasplitter_kwargs": {"num_workers": workers}})
        latents.append(model.get_latent_representation())
    np.testing.assert_allclose(latents[0], latents[1], atol=1e-6)


def test_to_device(trained):
    trained.to_device("cpu")
    assert trained.device == torch.device("cpu")


def test_deregister_manager(adata, fit):
    model = fit(adata)
    other = make_adata(seed=1)
    model.get_latent_representation(other)
    model.deregister_manager()
    assert list(model._per_instance_manager_store[model.id]) == [model.adata_manager.adata_uuid]
    model.get_latent_representation()


def test_save_checkpoint_callback(adata, fit, tmp_path):
    from scvi.train import SaveCheckpoint

    callback = SaveCheckpoint(dirpath=str(tmp_path), monitor="validation_loss", load_best_on_end=True)
    model = fit(adata, train={"max_epochs": 2, "callbacks": [callback]})
    assert any(tmp_path.iterdir())
    assert np.isfinite(model.get_latent_representation()).all()


def test_presets_and_their_overrides(adata):
    GeneMambaModel.setup_anndata(adata)
    config = GeneMambaModel(adata, preset="medium", n_layers=1).module.config
    assert (config.n_layers, config.d_model, config.max_tokens) == (1, 256, 512)
    with pytest.raises(ValueError, match="Unknown preset"):
        GeneMambaModel(adata, preset="huge")


def test_docstrings_are_rendered():
    for name in ("setup_anndata", "train"):
        assert "%(" not in getattr(GeneMambaModel, name).__doc__
