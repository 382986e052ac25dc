"""Query data: other genes, order, layout, batches and labels; and the order of rows."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

from scgenemamba import GeneMambaModel
from tests.conftest import make_adata

from .conftest import TINY


def assert_same(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


def beside(adata: ad.AnnData, columns: sp.csr_matrix, names) -> ad.AnnData:
    """The AnnData with more columns."""
    var = pd.DataFrame(index=[*adata.var_names, *names])
    return ad.AnnData(sp.hstack([adata.X, columns], format="csr"), obs=adata.obs, var=var)


@pytest.fixture
def latent(trained):
    return trained.get_latent_representation()


@pytest.mark.parametrize("layout", [sp.csr_matrix, sp.csc_matrix, sp.csr_array, sp.csc_array, lambda x: x.toarray()])
def test_layout_does_not_matter(trained, latent, layout):
    query = make_adata()
    query.X = layout(query.X)
    assert_same(trained.get_latent_representation(query), latent)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.int32])
def test_dtype_does_not_matter(trained, latent, dtype):
    query = make_adata()
    query.X = query.X.astype(dtype)
    assert_same(trained.get_latent_representation(query), latent)


def test_gene_order_does_not_matter(trained, latent):
    order = np.random.default_rng(0).permutation(60)
    assert_same(trained.get_latent_representation(make_adata()[:, order].copy()), latent)


def test_batch_size_and_mates_do_not_matter(trained, latent):
    assert_same(trained.get_latent_representation(batch_size=7), latent)
    assert_same(trained.get_latent_representation(indices=[11]), latent[[11]])


def test_extra_and_missing_genes(trained, latent):
    query = make_adata()
    wider = beside(query, query.X[:, :4] * 2, [f"new{i}" for i in range(4)])
    assert_same(trained.get_latent_representation(wider), latent)
    assert np.isfinite(trained.get_latent_representation(query[:, 10:].copy())).all()


def test_few_shared_genes_warn_and_none_raise(trained):
    query = make_adata()
    with pytest.warns(UserWarning, match="only 10 genes, "):
        trained.get_latent_representation(query[:, :10].copy())
    query.var_names = [f"x{i}" for i in range(query.n_vars)]
    with pytest.raises(ValueError, match="Only 0.0% of the counts"):
        trained.get_latent_representation(query)


def test_query_without_labels_or_batches(trained, latent):
    query = make_adata()
    query.obs = query.obs[[]]
    assert_same(trained.get_latent_representation(query), latent)
    assert (trained.predict(query) == trained.predict()).all()
    assert "cell_type" not in query.obs


def test_query_with_new_batches_and_labels(trained, latent):
    query = make_adata()
    query.obs["batch"] = "new"
    query.obs["cell_type"] = "another"
    assert_same(trained.get_latent_representation(query), latent)
    assert trained.predict(query, soft=True).shape == (query.n_obs, 3)
    assert (query.obs["cell_type"] == "another").all()


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_backed_data_in_any_order(trained, latent, tmp_path, layout):
    query = make_adata()
    query.X = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": lambda x: x.toarray()}[layout](query.X)
    query.write_h5ad(tmp_path / "query.h5ad")
    backed = ad.read_h5ad(tmp_path / "query.h5ad", backed="r+")
    order = [30, 4, 4, 99, 0]
    assert_same(trained.get_latent_representation(backed, indices=order), latent[order])
    assert_same(trained.get_latent_representation(backed), latent)
    backed.file.close()


def test_training_on_backed_data_gives_the_same_model(fit, tmp_path):
    import scvi

    make_adata().write_h5ad(tmp_path / "data.h5ad")
    latents = []
    for data in (make_adata(), ad.read_h5ad(tmp_path / "data.h5ad", backed="r+")):
        scvi.settings.seed = 0
        latents.append(fit(data, setup={"batch_key": "batch"}).get_latent_representation())
    assert_same(latents[1], latents[0])


def test_layers_raw_and_gene_key(trained, latent):
    setup = {"batch_key": "batch", "labels_key": "cell_type"}
    for place in ("layer", "raw"):
        data = make_adata()
        if place == "raw":
            data.var["symbol"] = data.var_names
            data.var_names = [f"ENSG{i:011d}.2" for i in range(data.n_vars)]
            data.raw = data.copy()
            keys = {"use_raw": True, "gene_key": "symbol"}
        else:
            data.layers["counts"] = data.X.copy()
            keys = {"layer": "counts"}
        data.X = data.X.toarray() - 3.0
        GeneMambaModel.setup_anndata(data, **setup, **keys)
        model = GeneMambaModel(data, **TINY)
        assert model.vocabulary.genes.tolist() == trained.vocabulary.genes.tolist()
        model.module.load_state_dict(trained.module.state_dict())
        model.is_trained_ = True
        assert_same(model.get_latent_representation(), latent)


def test_log_normalised_query_equals_counts(trained, latent):
    query = make_adata()
    sc.pp.normalize_total(query, target_sum=1e4)
    sc.pp.log1p(query, base=2)
    assert_same(trained.get_latent_representation(query), latent)


def test_duplicate_genes_are_summed(trained, latent):
    query = make_adata()
    half = query.X.copy()
    half.data = np.floor(half.data / 2)
    query.X = query.X - half
    doubled = beside(query, half, query.var_names)
    assert not doubled.var_names.is_unique
    assert_same(trained.get_latent_representation(doubled), latent)


def test_views_are_embedded(trained, latent):
    assert_same(trained.get_latent_representation(make_adata()[5:20]), latent[5:20])


def test_other_feature_types_are_left_out(trained, latent):
    query = make_adata()
    both = beside(query, query.X[:, [0]] * 100, [query.var_names[3]])
    both.var["feature_types"] = ["Gene Expression"] * query.n_vars + ["Antibody Capture"]
    assert_same(trained.get_latent_representation(both), latent)


def test_the_users_matrix_is_not_changed(trained):
    query = make_adata()
    query.X = sp.csc_matrix(query.X.astype(np.int64))
    before = query.X.copy()
    trained.get_latent_representation(query)
    assert query.X.format == "csc"
    assert query.X.dtype == np.int64
    assert (query.X != before).nnz == 0
