"""Saving and loading, here and by other versions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scgenemamba import GeneMambaModel
from tests.conftest import make_adata

FIXTURE = Path(__file__).parent / "saved" / "v0.1"


@pytest.mark.parametrize("save_anndata", [False, True])
def test_round_trip(trained, tmp_path, save_anndata):
    trained.save(tmp_path / "model", save_anndata=save_anndata, prefix="a_")
    loaded = GeneMambaModel.load(tmp_path / "model", None if save_anndata else make_adata(), prefix="a_")
    assert np.array_equal(loaded.get_latent_representation(), trained.get_latent_representation())
    assert loaded.predict().tolist() == trained.predict().tolist()
    assert loaded.history["train_loss"].equals(trained.history["train_loss"])
    assert loaded.validation_indices.tolist() == trained.validation_indices.tolist()
    assert loaded.objectives_ == trained.objectives_
    for key, value in trained.module.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[key], value)


def test_existing_folder_is_not_overwritten(trained, tmp_path):
    with pytest.raises(ValueError, match="already exists"):
        trained.save(tmp_path)


def test_load_without_data_registers_the_first_anndata(trained, tmp_path):
    trained.save(tmp_path / "model")
    loaded = GeneMambaModel.load(tmp_path / "model", adata=False)
    latent = trained.get_latent_representation()
    np.testing.assert_array_equal(loaded.get_latent_representation(make_adata()), latent)


def test_load_with_other_genes_and_batches_does_not_complain(trained, tmp_path, recwarn):
    trained.save(tmp_path / "model")
    query = make_adata()[:, ::-1].copy()
    query.obs["batch"] = "new"
    loaded = GeneMambaModel.load(tmp_path / "model", query)
    np.testing.assert_allclose(loaded.get_latent_representation(), trained.get_latent_representation(), atol=1e-5)
    assert not [w for w in recwarn if "var_names" in str(w.message)]


def test_loaded_model_trains_on(trained, tmp_path):
    trained.save(tmp_path / "model")
    loaded = GeneMambaModel.load(tmp_path / "model", make_adata())
    before = loaded.get_latent_representation()
    loaded.train(max_epochs=1, batch_size=32, enable_progress_bar=False)
    assert not np.allclose(before, loaded.get_latent_representation())


def test_registry_alone_builds_the_model(trained):
    model = GeneMambaModel(
        registry=trained.registry_,
        **{k: v for k, v in trained.init_params_["non_kwargs"].items() if k not in ("adata", "registry")},
    )
    assert model.module.config == trained.module.config


def test_saved_attributes_are_plain(trained):
    """What is pickled must not depend on a pandas or NumPy version."""

    def check(value):
        if isinstance(value, dict):
            for key, item in value.items():
                check(key)
                check(item)
        elif isinstance(value, list | tuple):
            for item in value:
                check(item)
        elif isinstance(value, np.ndarray):
            if value.dtype == object:
                check(value.tolist())
        else:
            assert value is None or isinstance(value, str | int | float | bool | np.generic), type(value)

    for name, value in trained.__dict__.items():
        if name.endswith("_") and not name.startswith("_"):
            check(dict(value) if hasattr(value, "items") else value)


def test_model_saved_by_version_0_1_loads():
    adata = make_adata()
    model = GeneMambaModel.load(FIXTURE, adata)
    expected = np.load(FIXTURE / "latent.npy")
    np.testing.assert_allclose(model.get_latent_representation(), expected, atol=1e-5 * np.abs(expected).max())
    assert list(model.predict(soft=True).columns) == ["type0", "type1", "type2"]
