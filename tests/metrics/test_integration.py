"""Scores of integration: which embeddings rank higher, and what the function copes with."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scgenemamba.metrics import integration_scores
from tests.conftest import make_adata

pytest.importorskip(
    "scib_metrics", reason="scores of integration need scib-metrics: pip install 'scgenemamba[metrics]'"
)


def cells_with_embeddings(n_cells=150):
    """Cells with a good embedding, one that keeps batches apart, and noise."""
    adata = make_adata(n_cells=n_cells, n_types=2)
    rng = np.random.default_rng(0)
    types = adata.obs["cell_type"].cat.codes.to_numpy()
    batches = adata.obs["batch"].cat.codes.to_numpy()
    noise = rng.normal(size=(n_cells, 4)).astype(np.float32)
    adata.obsm["good"] = noise + np.outer(types, [8, 0, 0, 0])
    adata.obsm["batchy"] = noise + np.outer(types, [8, 0, 0, 0]) + np.outer(batches, [0, 30, 0, 0])
    adata.obsm["noise"] = noise
    return adata


@pytest.fixture(scope="module")
def awkward():
    """Plain text columns, a missing label, a type of one cell, names that repeat."""
    adata = cells_with_embeddings()
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(object)
    adata.obs["batch"] = adata.obs["batch"].cat.codes.astype(int)
    adata.obs.iloc[0, adata.obs.columns.get_loc("cell_type")] = np.nan
    adata.obs.iloc[1, adata.obs.columns.get_loc("cell_type")] = "only one"
    adata.obs_names = ["cell"] * adata.n_obs
    return adata


@pytest.fixture(scope="module")
def scored(awkward):
    before = awkward.copy()
    with pytest.MonkeyPatch.context() as patch:
        # kBET's approximate search takes a minute to compile, and these cells are few
        patch.setattr("scib_metrics.nearest_neighbors.pynndescent", exact_neighbors)
        table = integration_scores(awkward, ["good", "batchy", "noise"], "batch", "cell_type")
    return before, awkward, table


def exact_neighbors(points, n_neighbors, random_state=0, n_jobs=1):
    from scib_metrics.nearest_neighbors import NeighborsResults
    from sklearn.neighbors import NearestNeighbors

    distances, indices = NearestNeighbors(n_neighbors=n_neighbors).fit(points).kneighbors(points)
    return NeighborsResults(indices=indices, distances=distances)


def test_better_embeddings_score_higher(scored):
    table = scored[2]
    assert list(table.index) == ["good", "batchy", "noise"]
    assert table["Total"].idxmax() == "good"
    assert table.loc["good", "Avg_bio"] > table.loc["noise", "Avg_bio"] + 0.3
    assert table.loc["good", "Avg_batch"] > table.loc["batchy", "Avg_batch"] + 0.2
    assert table.loc["good", "Batch correction"] > table.loc["batchy", "Batch correction"] + 0.2


def test_means_are_what_they_say(scored):
    table = scored[2]
    bio = table[["Isolated labels", "KMeans NMI", "KMeans ARI", "Silhouette label", "cLISI"]]
    batch = table[["BRAS", "iLISI", "KBET", "Graph connectivity", "PCR comparison"]]
    np.testing.assert_allclose(table["Bio conservation"], bio.mean(axis=1))
    np.testing.assert_allclose(table["Batch correction"], batch.mean(axis=1))
    np.testing.assert_allclose(table["Total"], 0.6 * table["Bio conservation"] + 0.4 * table["Batch correction"])
    paper = table[["Leiden NMI", "Leiden ARI", "Silhouette label"]].mean(axis=1)
    np.testing.assert_allclose(table["Avg_bio"], paper)
    np.testing.assert_allclose(table["Avg_batch"], table[["Silhouette batch", "Graph connectivity"]].mean(axis=1))
    assert np.isfinite(table.to_numpy()).all()


def test_the_cells_are_left_as_they_were(scored):
    before, after, _ = scored
    pd.testing.assert_frame_equal(before.obs, after.obs)
    assert list(before.obsm) == list(after.obsm)
    assert dict(before.uns) == dict(after.uns)
    assert before.obs_names.equals(after.obs_names)
    np.testing.assert_array_equal(before.X.toarray(), after.X.toarray())


def test_a_score_does_not_depend_on_the_other_embeddings(scored):
    _, adata, table = scored
    alone = integration_scores(adata, ["batchy"], None, "cell_type")
    assert list(alone.columns) == [
        *("Isolated labels", "KMeans NMI", "KMeans ARI", "Silhouette label", "cLISI"),
        *("Bio conservation", "Leiden NMI", "Leiden ARI", "Avg_bio"),
    ]
    # isolated labels depend on batches
    same = ["KMeans NMI", "Silhouette label", "cLISI", "Leiden NMI", "Leiden ARI", "Avg_bio"]
    np.testing.assert_allclose(alone[same], table.loc[["batchy"], same], rtol=1e-5)


@pytest.mark.parametrize(
    ("columns", "arguments", "error", "message"),
    [
        ({}, {"batch_key": "donor"}, KeyError, "'donor' not found in adata.obs; it has"),
        ({}, {"embedding_keys": ["X_none"]}, KeyError, "not found in adata.obsm; it has"),
        ({}, {"unintegrated_key": "X_none"}, KeyError, "unintegrated_key"),
        ({}, {"embedding_keys": ["broken"]}, ValueError, "'broken'.*not finite"),
        ({"batch": "one"}, {}, ValueError, "one batch, 'one'.*batch_key=None"),
        ({"cell_type": "T"}, {}, ValueError, "one label, 'T'"),
    ],
)
def test_bad_input_is_named(columns, arguments, error, message):
    adata = cells_with_embeddings()
    adata.obsm["broken"] = np.full((adata.n_obs, 2), np.nan)
    adata.obs = adata.obs.assign(**columns)
    options = {"embedding_keys": ["good"], "batch_key": "batch", "labels_key": "cell_type", **arguments}
    with pytest.raises(error, match=message):
        integration_scores(adata, **options)


def test_few_cells_are_refused():
    with pytest.raises(ValueError, match="80 cells have a label.*at least 91"):
        integration_scores(cells_with_embeddings(80), ["good"], "batch", "cell_type")
