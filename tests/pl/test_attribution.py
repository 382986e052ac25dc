"""The dot plot of attributed genes draws what the tables say."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from scgenemamba import pl

mpl.use("Agg")


@pytest.fixture
def attributed():
    rows = [("B", "MS4A1", 2.0, 0.9), ("B", "CD74", 1.0, 1.0), ("B", "LYZ", -1.0, 0.5), ("Mono", "LYZ", 3.0, 1.0)]
    rows += [("Mono", "CD74", 0.5, 0.6)]
    table = pd.DataFrame(rows, columns=["group", "gene", "attribution", "share"])
    return table.assign(group=pd.Categorical(table["group"], categories=["Mono", "B"]))


@pytest.fixture
def ranked():
    rows = [
        ("B", "MS4A1", 20.0),
        ("B", "LYZ", -9.0),
        ("Mono", "LYZ", 30.0),
        ("Mono", "MS4A1", -3.0),
        ("T", "CD3E", 1.0),
    ]
    return pd.DataFrame(rows, columns=["group", "names", "scores"])


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def dots(ax, part=-1):
    """Colours and sizes of the dots, before those of the legend."""
    drawn = [c for c in ax.collections if len(c.get_offsets())]
    return {(x, y): (value, size) for (x, y), value, size in zip(drawn[part].get_offsets().tolist(), drawn[part].get_array(), drawn[part].get_sizes(), strict=True)}  # fmt: skip


def test_top_genes_of_each_group(attributed):
    before = attributed.copy()
    (ax,) = pl.attribution_dotplot(attributed, n_genes=1)
    pd.testing.assert_frame_equal(attributed, before)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["Mono", "B"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["LYZ", "MS4A1"]
    found = dots(ax)
    assert found[0.0, 0.0][0] == 3.0 and found[1.0, 0.0][0] == -1.0 and found[0.0, 1.0] == (0.0, 0.0)
    np.testing.assert_allclose(found[1.0, 0.0][1] / found[0.0, 0.0][1], 0.5)


def test_scores_of_another_table_beside(attributed, ranked):
    first, second = pl.attribution_dotplot(attributed, ranked, n_genes=2, groups=["B", "Mono"])
    assert [t.get_text() for t in first.get_yticklabels()] == ["MS4A1", "CD74", "LYZ"]
    found = dots(second)
    assert found[0.0, 0.0][0] == 20.0 and found[1.0, 2.0][0] == 30.0
    # the second table lacks the gene
    assert (0.0, 1.0) not in found


def test_given_axes_are_drawn_into(attributed, ranked):
    axes = plt.subplots(1, 2)[1]
    assert list(pl.attribution_dotplot(attributed, ranked, axes=axes)) == list(axes)
    with pytest.raises(ValueError, match="2 panels to draw, but 1 axes"):
        pl.attribution_dotplot(attributed, ranked, axes=axes[0])


def test_bad_tables_are_named(attributed, ranked):
    with pytest.raises(KeyError, match="no column 'share'"):
        pl.attribution_dotplot(attributed.drop(columns="share"))
    with pytest.raises(KeyError, match="no column 'scores'"):
        pl.attribution_dotplot(attributed, ranked.drop(columns="scores"))
    with pytest.raises(ValueError, match="no group 'NK'.*'Mono', 'B'"):
        pl.attribution_dotplot(attributed, groups=["NK"])
    with pytest.raises(ValueError, match="none of the groups"):
        pl.attribution_dotplot(attributed, ranked[ranked["group"] == "T"])
    with pytest.raises(ValueError, match="`n_genes` must be at least 1"):
        pl.attribution_dotplot(attributed, n_genes=0)
