"""Similarity and nearest genes, as tables and graphs."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

from scgenemamba import tl
from tests.conftest import make_adata


def table(n_genes=60, n_modules=4, d=16, seed=0):
    """Modules of genes around centres, far from zero all of them."""
    generator = np.random.default_rng(seed)
    centers = generator.normal(size=(n_modules, d))
    module = np.arange(n_genes) % n_modules
    values = centers[module] + 0.2 * generator.normal(size=(n_genes, d)) + 10
    obs = pd.DataFrame({"n_cells": 10 + np.arange(n_genes), "module": module}, index=[f"G{i}" for i in range(n_genes)])
    return ad.AnnData(values.astype(np.float32), obs=obs)


@pytest.fixture
def genes():
    return table()


@pytest.fixture
def grouped():
    """Two groups of cells; a gene is exactly where it is in the other."""
    parts = []
    for group in ("B", "T"):
        part = table(30, 3)
        part.obs = part.obs.drop(columns="module").assign(gene=part.obs_names, cell_type=group)
        part.obs_names = part.obs_names + f"|{group}"
        parts.append(part)
    return ad.concat(parts)


def cosine(values):
    unit = values - values.mean(0, dtype=float)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    return unit @ unit.T


def test_similarity_is_the_cosine_around_the_mean(genes):
    found = tl.gene_similarity(genes)
    np.testing.assert_allclose(found, cosine(genes.X), atol=1e-5)
    # the mean is that of all genes, whichever are asked for
    few = tl.gene_similarity(genes, ["G7", "G3"])
    assert [*few.index] == [*few.columns] == ["G7", "G3"]
    assert few.loc["G7", "G3"] == pytest.approx(found.loc["G7", "G3"], abs=1e-6)
    assert tl.gene_similarity(genes, center=False).to_numpy().min() > 0.8 > found.to_numpy().min()


def test_neighbours_are_the_nearest_of_all_genes(genes, monkeypatch):
    from scgenemamba.tl._genes import _neighbors as _gene_neighbors

    # several blocks, and the last one smaller
    monkeypatch.setattr(_gene_neighbors, "_BLOCK", 7)
    before = genes.copy()
    assert tl.gene_neighbors(genes, n_neighbors=5) is None
    similarity = cosine(before.X)
    np.fill_diagonal(similarity, -np.inf)
    expected = np.argsort(-similarity, axis=1)[:, :5]
    distances = genes.obsp["gene_neighbors_distances"]
    assert (np.diff(distances.indptr) == 5).all()
    for row in range(genes.n_obs):
        assert set(distances[[row]].indices) == set(expected[row])
        np.testing.assert_allclose(
            distances[row, expected[row]].toarray()[0], 1 - similarity[row, expected[row]], atol=1e-5
        )
    # joined if either is among the other's nearest
    near = np.zeros_like(similarity, dtype=bool)
    near[np.arange(60)[:, None], expected] = True
    joined = np.where((near | near.T) & (similarity > 0), similarity, 0)
    np.testing.assert_allclose(genes.obsp["gene_neighbors_connectivities"].toarray(), joined, atol=1e-5)
    np.testing.assert_array_equal(genes.X, before.X)
    pd.testing.assert_frame_equal(genes.obs, before.obs)


def test_scanpy_finds_the_modules(genes):
    tl.gene_neighbors(genes, n_neighbors=8, key_added="near")
    assert {*genes.obsp} == {"near_distances", "near_connectivities"}
    sc.tl.leiden(genes, neighbors_key="near", flavor="igraph", n_iterations=2, directed=False)
    assert (pd.crosstab(genes.obs["leiden"], genes.obs["module"]) > 0).sum().tolist() == [1, 1, 1, 1]


def test_groups_of_cells_are_not_mixed(grouped):
    tl.gene_neighbors(grouped, n_neighbors=4)
    near = grouped.obsp["gene_neighbors_connectivities"].tocoo()
    group = grouped.obs["cell_type"].to_numpy()
    assert near.nnz
    assert (group[near.row] == group[near.col]).all()
    alone = grouped[group == "T"].copy()
    tl.gene_neighbors(alone, n_neighbors=4)
    part = grouped[group == "T"].obsp["gene_neighbors_connectivities"]
    np.testing.assert_allclose(alone.obsp["gene_neighbors_connectivities"].toarray(), part.toarray(), atol=1e-6)
    found = tl.gene_similarity(grouped, ["G0", "G4"], group="B")
    assert found.loc["G0", "G0"] == pytest.approx(1)
    # one group is left: it need not be named
    assert tl.gene_similarity(alone, ["G0"]).shape == (1, 1)


def test_groups_are_those_of_gene_embeddings():
    from scgenemamba import GeneMambaModel

    adata = make_adata()
    GeneMambaModel.setup_anndata(adata)
    model = GeneMambaModel(adata, n_layers=1, d_model=32, max_tokens=24, d_state=16)
    model.is_trained_ = True
    genes = tl.gene_embeddings(model, adata, groupby="cell_type", min_cells=3)
    tl.gene_neighbors(genes, n_neighbors=5)
    near = genes.obsp["gene_neighbors_distances"].tocoo()
    assert (genes.obs["cell_type"].to_numpy()[near.row] == genes.obs["cell_type"].to_numpy()[near.col]).all()
    name = genes.obs["gene"].iloc[0]
    assert tl.gene_similarity(genes, [name], group=genes.obs["cell_type"].iloc[0]).index[0] == name


def test_more_neighbours_than_genes_and_a_group_of_one(grouped):
    few = grouped[["G0|B", "G1|B", "G2|B", "G0|T"]].copy()
    tl.gene_neighbors(few, n_neighbors=15)
    assert np.diff(few.obsp["gene_neighbors_distances"].indptr).tolist() == [2, 2, 2, 0]


@pytest.mark.parametrize("package", ["networkx", "igraph"])
def test_graphs_have_names_attributes_and_weights(genes, package):
    tl.gene_neighbors(genes, n_neighbors=3)
    graph = tl.gene_graph(genes, package=package)
    near = sp.triu(genes.obsp["gene_neighbors_connectivities"], k=1)
    if package == "networkx":
        edges = {frozenset(ends[:2]): ends[2] for ends in graph.edges(data="weight")}
        node = graph.nodes["G5"]
    else:
        names = graph.vs["name"]
        edges = {frozenset((names[e.source], names[e.target])): e["weight"] for e in graph.es}
        node = graph.vs.find("G5").attributes()
    assert (node["n_cells"], node["module"]) == (15, 1)
    assert len(edges) == near.nnz == len(graph.edges if package == "networkx" else graph.es)
    near = near.tocoo()
    for a, b, weight in zip(near.row, near.col, near.data, strict=True):
        assert edges[frozenset((f"G{a}", f"G{b}"))] == pytest.approx(weight)


def test_dissimilar_genes_can_be_left_out_of_a_graph(genes):
    tl.gene_neighbors(genes)
    whole, part = tl.gene_graph(genes), tl.gene_graph(genes, min_similarity=0.97)
    expected = {edge for edge in whole.edges if whole.edges[edge]["weight"] >= 0.97}
    assert 0 < len(expected) < len(whole.edges)
    assert set(part.edges) == expected
    assert len(part) == len(whole)


def test_bad_arguments_are_named(genes, grouped):
    with pytest.raises(KeyError, match="Gene 'g51' is not among the 60.* did you mean G51"):
        tl.gene_similarity(genes, ["G1", "g51"])
    with pytest.raises(KeyError, match="'X' and 1 others"):
        tl.gene_similarity(genes, ["X", "Y"])
    with pytest.raises(ValueError, match=r"2 groups: choose one of \['B', 'T'\]"):
        tl.gene_similarity(grouped, ["G1"])
    with pytest.raises(KeyError, match="no group 'NK'; there are .*'B', 'T'"):
        tl.gene_similarity(grouped, ["G1"], group="NK")
    with pytest.raises(KeyError, match="there are no groups"):
        tl.gene_similarity(genes, ["G1"], group="B")
    with pytest.raises(ValueError, match="at least 1"):
        tl.gene_neighbors(genes, n_neighbors=0)
    with pytest.raises(KeyError, match="run `scgenemamba.tl.gene_neighbors"):
        tl.gene_graph(genes)
    with pytest.raises(ValueError, match="choose 'networkx' or 'igraph'"):
        tl.gene_graph(genes, package="dgl")
    genes.X[3] = np.nan
    with pytest.raises(ValueError, match="1 genes are not finite, such as 'G3'"):
        tl.gene_neighbors(genes)


def test_a_table_of_too_many_genes_is_refused(genes, monkeypatch):
    from scgenemamba.tl._genes import _neighbors as _gene_neighbors

    monkeypatch.setattr(_gene_neighbors, "_MOST_GENES", 50)
    with pytest.raises(ValueError, match="60 genes would be too large"):
        tl.gene_similarity(genes)
    assert len(tl.gene_similarity(genes, ["G1", "G2"])) == 2
