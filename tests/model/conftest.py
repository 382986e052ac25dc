"""A tiny trained model shared by the tests that only read it."""

from __future__ import annotations

import pytest
import scvi

from tests.conftest import make_adata

TINY = {"n_layers": 1, "d_model": 32, "max_tokens": 24, "n_latent": 8, "d_state": 16}


@pytest.fixture(scope="session")
def trained():
    """Model trained on simulated counts with batches and labels; do not change it."""
    from scgenemamba import GeneMambaModel

    scvi.settings.seed = 0
    adata = make_adata()
    GeneMambaModel.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    model = GeneMambaModel(adata, **TINY)
    model.train(max_epochs=3, batch_size=32, enable_progress_bar=False)
    return model


@pytest.fixture
def fit():
    """Set up, build and train a tiny model in one call."""
    from scgenemamba import GeneMambaModel

    def run(adata, *, setup=None, train=None, **init):
        GeneMambaModel.setup_anndata(adata, **(setup or {}))
        model = GeneMambaModel(adata, **{**TINY, **init})
        model.train(**{"max_epochs": 1, "batch_size": 32, "enable_progress_bar": False, **(train or {})})
        return model

    return run
