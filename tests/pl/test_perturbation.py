from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from scgenemamba import pl


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture
def table() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    parts = []
    for group, shift in (("B", 0.5), ("NK", -0.5)):
        effect = generator.normal(scale=0.1, size=30)
        effect[3] += shift
        fdr = np.full(30, 0.5)
        fdr[3] = 1e-6
        genes = [f"G{i}" for i in range(30)]
        parts.append(pd.DataFrame({"group": group, "gene": genes, "effect": effect, "control": 0.1, "fdr": fdr}))
    return pd.concat(parts, ignore_index=True)


def test_volcano(table):
    before = table.copy()
    ax = pl.perturbation_volcano(table, group="NK")
    pd.testing.assert_frame_equal(table, before)
    grey, coloured = ax.collections
    assert len(grey.get_offsets()) == 29
    ((x, y),) = coloured.get_offsets()
    row = table[(table["group"] == "NK") & (table["gene"] == "G3")].iloc[0]
    assert (x, y) == pytest.approx((row["effect"] - 0.1, 6))
    assert [text.get_text() for text in ax.texts] == ["G3"]
    asked = pl.perturbation_volcano(table, group="NK", genes=["G5", "G6"], ax=plt.subplots()[1])
    assert [text.get_text() for text in asked.texts] == ["G5", "G6"]


def test_heatmap(table):
    # the second group was not asked about one gene
    table = table.drop(index=table.index[(table["group"] == "NK") & (table["gene"] == "G3")])
    ax = pl.perturbation_heatmap(table, n_genes=2)
    genes = [label.get_text() for label in ax.get_xticklabels()]
    assert genes[0] == "G3"
    assert len(genes) == 4
    assert [label.get_text() for label in ax.get_yticklabels()] == ["B", "NK"]
    values = ax.collections[0].get_array().reshape(2, 4)
    assert np.ma.getmaskarray(values)[1, 0]
    assert ax.get_facecolor() == to_rgba("0.8")
    chosen = pl.perturbation_heatmap(table, genes=["G7", "G1"], ax=plt.subplots()[1])
    assert [label.get_text() for label in chosen.get_xticklabels()] == ["G7", "G1"]


def test_bad_tables_are_named(table):
    with pytest.raises(ValueError, match=r"2 groups: choose one of \['B', 'NK'\]"):
        pl.perturbation_volcano(table)
    with pytest.raises(KeyError, match="no 'T'; there are"):
        pl.perturbation_volcano(table, group="T")
    with pytest.raises(KeyError, match="no column 'fdr'"):
        pl.perturbation_volcano(table.drop(columns="fdr"))
    with pytest.raises(KeyError, match="no 'X'"):
        pl.perturbation_heatmap(table, genes=["X"])
    with pytest.raises(ValueError, match="no gene was tested"):
        pl.perturbation_volcano(table.assign(fdr=np.nan), group="B")
