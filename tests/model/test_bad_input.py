"""Bad input gets an error or a warning that names it, before any long work."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

from scgenemamba import GeneMambaModel
from tests.conftest import make_adata

from .conftest import TINY


def setup(adata, **kwargs):
    GeneMambaModel.setup_anndata(adata, **kwargs)


@pytest.mark.parametrize(("value", "words"), [(-1.0, "negative"), (np.nan, "nan"), (np.inf, "inf")])
def test_bad_values_name_cell_gene_and_the_counts(adata, value, words):
    adata.layers["counts"] = adata.X.copy()
    dense = adata.X.toarray()
    dense[3, 2] = value
    adata.X = dense
    with pytest.raises(ValueError, match=words) as error:
        setup(adata)
    assert "cell3" in str(error.value)
    assert adata.var_names[2] in str(error.value)
    if value < 0:
        assert "layer='counts'" in str(error.value)


def test_scaled_data_point_to_raw(adata):
    adata.raw = adata.copy()
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.scale(adata)
    with pytest.raises(ValueError, match="use_raw=True"):
        setup(adata)


def test_unknown_logarithm_is_refused(adata):
    adata.X = np.random.default_rng(0).random(adata.shape) * 4
    with pytest.raises(ValueError, match="base of their logarithm is unknown"):
        setup(adata)


def test_log_data_in_a_counts_role_use_another_likelihood(adata, fit):
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    adata.layers["counts"] = adata.X.astype(np.float32)
    setup(adata, layer="counts")
    with pytest.raises(ValueError, match="needs counts"):
        GeneMambaModel(adata, **TINY, gene_likelihood="nb")
    model = fit(adata, setup={"layer": "counts"})
    assert model.likelihood_ == "normal"
    assert model.objectives_[0] == "log-expression given batch (no counts)"


def test_fractional_counts_warn(adata):
    adata.X = adata.X.multiply(np.random.default_rng(0).uniform(1, 9, size=adata.shape)).tocsr()
    with pytest.warns(UserWarning, match="not integers"):
        setup(adata)


def test_empty_cells_are_named_and_do_no_harm(adata, fit):
    dense = adata.X.toarray()
    dense[[4, 7]] = 0
    adata.X = sp.csr_matrix(dense)
    with pytest.warns(UserWarning, match="2 of 120 cells express no gene.*'cell4', 'cell7'"):
        model = fit(adata, setup={"batch_key": "batch"})
    assert np.isfinite(model.get_latent_representation()).all()


def test_all_zero_matrix_is_refused(adata):
    adata.X = sp.csr_matrix(adata.shape)
    with pytest.raises(ValueError, match="all values are zero"), pytest.warns(UserWarning, match="express no gene"):
        setup(adata)


def test_view_is_refused(adata):
    with pytest.raises(ValueError, match="copy"):
        setup(adata[:50])


def test_copy_of_a_registered_anndata_does_not_disturb_the_original(adata):
    setup(adata, batch_key="batch")
    setup(adata.copy(), batch_key="batch")
    GeneMambaModel(adata, **TINY)


def test_duplicate_cells_are_fine(fit):
    adata = make_adata()
    adata.obs_names = ["same"] * adata.n_obs
    assert fit(adata, setup={"labels_key": "cell_type"}).predict(soft=True).shape == (120, 3)


@pytest.mark.parametrize("shape", [(1, 30), (40, 1)])
def test_one_cell_or_one_gene(fit, shape):
    counts = np.random.default_rng(0).poisson(3, size=shape) + 1
    model = fit(AnnData(sp.csr_matrix(counts.astype(np.float32))))
    assert model.get_latent_representation().shape == (shape[0], TINY["n_latent"])


def test_one_label_warns(adata, fit):
    adata.obs["cell_type"] = "only"
    with pytest.warns(UserWarning, match="single label 'only'"):
        model = fit(adata, setup={"labels_key": "cell_type"})
    assert set(model.predict()) == {"only"}


def test_missing_labels_are_unlabeled(fit):
    adata = make_adata()
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(object)
    adata.obs.iloc[:30, adata.obs.columns.get_loc("cell_type")] = np.nan
    before = adata.obs["cell_type"].copy()
    model = fit(adata, setup={"labels_key": "cell_type"})
    assert list(model.predict(soft=True).columns) == ["type0", "type1", "type2"]
    pd.testing.assert_series_equal(adata.obs["cell_type"], before)


def test_no_labels_at_all_are_refused(adata):
    adata.obs["cell_type"] = "Unknown"
    with pytest.raises(ValueError, match="no labels to learn"):
        setup(adata, labels_key="cell_type")


def test_labels_that_look_missing_are_pointed_out(adata):
    adata.obs["cell_type"] = ["unassigned" if i < 9 else "T" for i in range(adata.n_obs)]
    with pytest.warns(UserWarning, match="'unassigned'"):
        setup(adata, labels_key="cell_type")


def test_numeric_labels(adata, fit):
    adata.obs["cluster"] = np.arange(adata.n_obs) % 3
    model = fit(adata, setup={"labels_key": "cluster"})
    assert set(model.predict()) <= {0, 1, 2}


def test_batch_of_one_cell_warns_and_missing_batch_raises(adata):
    adata.obs["batch"] = ["lonely"] + ["rest"] * (adata.n_obs - 1)
    with pytest.warns(UserWarning, match="'lonely'"):
        setup(adata, batch_key="batch")
    adata.obs["batch"] = adata.obs["batch"].astype(object).where(adata.obs["batch"] != "lonely")
    with pytest.raises(ValueError, match="'cell0'"):
        setup(adata, batch_key="batch")


@pytest.mark.parametrize("key", ["batch_key", "labels_key"])
def test_missing_columns_are_named(adata, key):
    with pytest.raises(KeyError, match="nonsense not found in adata.obs"):
        setup(adata, **{key: "nonsense"})


def test_missing_layer_gene_key_and_raw(adata):
    with pytest.raises(ValueError, match="'nonsense' not found in adata.layers"):
        setup(adata, layer="nonsense")
    with pytest.raises(ValueError, match="gene_key"):
        setup(adata, gene_key="nonsense")
    with pytest.raises(ValueError, match=r"adata\.raw is None"):
        setup(adata, use_raw=True)
    with pytest.raises(ValueError, match="not both"):
        setup(adata, use_raw=True, layer="nonsense")


def test_values_changed_after_setup_are_noticed(adata):
    setup(adata)
    model = GeneMambaModel(adata, **TINY)
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    with pytest.raises(ValueError, match="were counts at setup_anndata"):
        model.train(max_epochs=1, enable_progress_bar=False)


def test_training_on_unknown_batches_is_refused(trained, tmp_path):
    trained.save(tmp_path / "model")
    query = make_adata()
    query.obs["batch"] = "new"
    model = GeneMambaModel.load(tmp_path / "model", query)
    with pytest.raises(ValueError, match="does not know the batches 'new'"):
        model.train(max_epochs=1, enable_progress_bar=False)


def test_max_tokens_of_one(adata, fit):
    assert np.isfinite(fit(adata, max_tokens=1).get_latent_representation()).all()


def test_many_genes(fit):
    rng = np.random.default_rng(0)
    wide = sp.random(60, 60_000, density=0.01, format="csr", random_state=0, data_rvs=lambda n: rng.integers(1, 9, n))
    model = fit(AnnData(wide.astype(np.float32)))
    assert model.get_latent_representation().shape == (60, TINY["n_latent"])
