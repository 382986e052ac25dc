"""Real blood cells: every way of giving the same cells gives the same tokens, and types are learnt."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import scvi

from scgenemamba import GeneMambaModel

from .conftest import TINY


@pytest.fixture
def blood(real_data):
    return ad.read_h5ad(real_data("pbmc_tiny.h5ad"))


def tokens_of(adata: ad.AnnData, **setup) -> tuple[np.ndarray, np.ndarray]:
    GeneMambaModel.setup_anndata(adata, **setup)
    model = GeneMambaModel(adata, **TINY)
    batch = model.adata_manager.create_torch_dataset()[np.arange(adata.n_obs)]
    return model.vocabulary.genes[batch["tokens"].numpy() - 2], batch["cu_seqlens"].numpy()


def test_tokens_do_not_depend_on_how_the_cells_are_given(blood):
    genes, bounds = tokens_of(blood.copy())
    shuffled = blood[:, np.random.default_rng(0).permutation(blood.n_vars)].copy()
    logged = blood.copy()
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    in_raw = logged.copy()
    in_raw.raw = blood
    for adata, setup in ((shuffled, {}), (logged, {}), (in_raw, {"use_raw": True})):
        other_genes, other_bounds = tokens_of(adata, **setup)
        assert np.array_equal(other_bounds, bounds)
        assert np.array_equal(other_genes, genes)


def test_tokens_by_ensembl_id_name_the_same_genes(blood):
    _, bounds = tokens_of(blood.copy())
    ids, other_bounds = tokens_of(blood.copy(), gene_key="ensembl_id")
    assert all(str(name).startswith("ENSG") for name in ids[:50])
    assert np.array_equal(other_bounds, bounds)


def test_blood_types_are_learnt(blood):
    scvi.settings.seed = 0
    GeneMambaModel.setup_anndata(blood, batch_key="batch", labels_key="cell_type")
    model = GeneMambaModel(blood, n_layers=1, d_model=32, max_tokens=64, n_decoder_genes=500)
    model.train(max_epochs=10, batch_size=32, enable_progress_bar=False)
    held_out = model.validation_indices
    truth = blood.obs["cell_type"].to_numpy()[held_out]
    # five types of equal size: chance is 0.2
    assert (model.predict(indices=held_out) == truth).mean() > 0.6
