"""Genes whose context differs between conditions, and those that differ by chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scgenemamba import tl
from scgenemamba.tl._genes._shifts import _draw_blocks, _exchange, _observed
from tests.conftest import make_adata


@pytest.fixture(scope="module")
def model():
    """Random weights: what they make of a cell depends on it as well."""
    import scvi

    from scgenemamba import GeneMambaModel

    scvi.settings.seed = 0
    adata = make_adata(n_cells=400, n_types=2)
    adata.obs["half"] = pd.Categorical(np.where(np.random.default_rng(1).random(400) < 0.5, "one", "two"))
    GeneMambaModel.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    model = GeneMambaModel(adata, n_layers=1, d_model=32, max_tokens=40, n_latent=8, d_state=16)
    model.is_trained_ = True
    return model


def changed_in(adata, condition, change):
    """Copy in which ``change`` was done to the counts of the cells of a condition."""
    other = adata.copy()
    counts = other.X.toarray()
    rows = np.flatnonzero(other.obs["half"] == condition)
    counts[rows] = change(counts[rows])
    other.X = type(adata.X)(counts)
    return other


def test_random_halves_do_not_differ(model):
    found = [
        tl.gene_shifts(model, groupby="half", group="one", reference="two", n_permutations=100, random_state=seed)
        for seed in range(3)
    ]
    p_value = np.concatenate([table["p_value"] for table in found])
    assert all(table["fdr"].min() > 0.05 for table in found)
    assert 0.35 < p_value.mean() < 0.65
    assert (p_value < 0.1).mean() < 0.2


def test_a_gene_that_changes_its_rank_comes_first(model):
    place = 35
    other = changed_in(model.adata, "two", lambda counts: np.where(np.arange(60) == place, counts * 20, counts))
    table = tl.gene_shifts(model, other, groupby="half", group="one", reference="two", n_permutations=100)
    assert table.index[0] == model.adata.var_names[place]
    assert table["fdr"].iloc[0] < 0.02


def test_genes_that_change_places_come_first(model):
    # a marker of each type: after the exchange, each stands among the other's genes, where it also moves those beside it
    adata = model.adata
    means = [adata.X[(adata.obs["cell_type"] == name).to_numpy()].mean(0).A1 for name in ("type0", "type1")]
    pair = [int(np.argmax(means[0] - means[1])), int(np.argmax(means[1] - means[0]))]
    order = np.arange(60)
    order[pair] = pair[::-1]
    other = changed_in(adata, "two", lambda counts: counts[:, order])
    table = tl.gene_shifts(model, other, groupby="half", group="one", reference="two", n_permutations=100)
    assert {*adata.var_names[pair]} <= {*table.index[:3]}
    found = table.loc[adata.var_names[pair]]
    assert (found["fdr"] < 0.01).all()
    assert (found["distance"] > 3 * found["expected"]).all()


def test_distances_are_those_of_the_contextual_embeddings(model):
    adata = model.adata
    table = tl.gene_shifts(model, groupby="half", group="one", min_cells=20, n_permutations=20)
    units = []
    for name in ("one", "two"):
        states, n_cells = model.get_contextual_gene_embeddings(indices=np.flatnonzero(adata.obs["half"] == name))
        column = "n_cells" if name == "one" else "n_cells_reference"
        assert (n_cells[table.index] == table[column]).all()
        values = states.loc[table.index].to_numpy(np.float64)
        values -= values.mean(0)
        units.append(values / np.linalg.norm(values, axis=1, keepdims=True))
    np.testing.assert_allclose(table["distance"], 1 - (units[0] * units[1]).sum(1), atol=1e-5)
    assert (table[["n_cells", "n_cells_reference"]] >= 20).all(axis=None)
    assert table["z"].is_monotonic_decreasing


def test_batch_size_and_order_of_cells_change_nothing_and_the_seed_does(model):
    arguments = {"groupby": "half", "group": "one", "n_permutations": 20}
    rows = np.arange(150)
    found = tl.gene_shifts(model, indices=rows, batch_size=64, **arguments)
    other = tl.gene_shifts(model, indices=np.arange(400) < 150, batch_size=11, **arguments)
    pd.testing.assert_frame_equal(found, other.loc[found.index], atol=1e-5, rtol=1e-4)
    assert not np.allclose(
        found["expected"],
        tl.gene_shifts(model, indices=rows, random_state=1, **arguments).loc[found.index, "expected"],
    )


@pytest.mark.parametrize("sizes", [(100, 100), (300, 17), (13, 1000), (5, 40), (130, 100)])
def test_exchanges_keep_the_sizes_of_the_conditions(sizes):
    generator = np.random.default_rng(0)
    in_group = generator.permutation(np.repeat([True, False], sizes))
    blocks = _draw_blocks(in_group, generator)
    assert (_observed(blocks)[blocks.of_cell] == in_group).all()
    moved = np.array([_exchange(blocks, generator)[blocks.of_cell] for _ in range(50)])
    # blocks of a size that is no whole number differ by one cell
    assert np.abs(moved.sum(1) - sizes[0]).max() <= min(12, *sizes)
    assert (moved != in_group).any(axis=1).mean() > 0.9


def test_bad_arguments_are_named(model):
    with pytest.raises(KeyError, match="no column 'halves'; it has"):
        tl.gene_shifts(model, groupby="halves", group="one")
    with pytest.raises(ValueError, match=r"No cell is of 'three'; 'half' has \['one', 'two'\]"):
        tl.gene_shifts(model, groupby="half", group="three")
    with pytest.raises(ValueError, match="No cell among `indices` is of 'rest'"):
        rows = np.flatnonzero(model.adata.obs["half"] == "one")
        tl.gene_shifts(model, groupby="half", group="one", indices=rows)
    with pytest.raises(ValueError, match="both 'one'"):
        tl.gene_shifts(model, groupby="half", group="one", reference="one")
    with pytest.raises(ValueError, match="0 genes are shown by 300 cells each of 'one'"):
        tl.gene_shifts(model, groupby="half", group="one", min_cells=300)
    with pytest.raises(ValueError, match="`min_cells` must be at least 1"):
        tl.gene_shifts(model, groupby="half", group="one", min_cells=0)
    with pytest.raises(ValueError, match="at least 20"):
        tl.gene_shifts(model, groupby="half", group="one", n_permutations=5)
