"""Densities of scores, and circles of shared genes."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Circle

from scgenemamba import pl
from scgenemamba.pl._reconstruction import _distance, _lens

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close():
    yield
    mpl.pyplot.close("all")


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    parts = []
    for name, mean, shared in (("model", 0.7, 3), ("unigram", 0.0, 1)):
        spearman = np.clip(rng.normal(mean, 0.1, 50), -1, 1) if mean else np.zeros(50)
        counts = {"n_shared": shared, "n_only_true": 4 - shared, "n_only_guessed": 4 - shared}
        parts.append(pd.DataFrame({"cell": range(50), "method": name, "spearman": spearman, "loss": 5.0, **counts}))
    return pd.concat(parts, ignore_index=True)


def test_densities_are_densities(table):
    before = table.copy()
    ax = pl.reconstruction(table)
    pd.testing.assert_frame_equal(table, before)
    (curve,) = (line for line in ax.lines if len(line.get_xdata()) > 2)
    x, y = curve.get_data()
    assert ((y[1:] + y[:-1]) / 2 * np.diff(x)).sum() == pytest.approx(1, abs=0.01)
    assert x[y.argmax()] == pytest.approx(0.7, abs=0.05)
    # the same in all cells: a line at its value
    assert [*ax.lines[-1].get_xdata()] == [0, 0]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[1] == "unigram: mean 0.000 (n=50)"
    assert ax.get_xlabel() == "spearman of a cell (higher is better)"


def test_methods_are_chosen(table):
    given = mpl.pyplot.subplots()[1]
    ax = pl.reconstruction(table, "loss", methods=["unigram"], ax=given)
    assert ax is given and len(ax.get_legend().get_texts()) == 1
    assert "lower is better" in ax.get_xlabel()


def test_areas_are_numbers_of_genes(table):
    ax = pl.reconstruction_overlap(table)
    circles = [patch for patch in ax.patches if isinstance(patch, Circle)]
    assert len(circles) == 4
    for (left, right), share in zip((circles[:2], circles[2:]), (3 / 4, 1 / 4), strict=True):
        apart = right.center[0] - left.center[0]
        assert _lens(left.radius, right.radius, apart) == pytest.approx(share * np.pi * left.radius**2, rel=1e-6)
    texts = [text.get_text() for text in ax.texts]
    assert "150" in texts and "unigram\n25.0% of the genes" in texts


def test_circles_that_hold_each_other_or_do_not_touch():
    assert _distance(1.0, 0.5, np.pi * 0.25) == pytest.approx(0.5)
    assert _distance(1.0, 0.5, 0.0) == 1.5
    assert _distance(1.0, 1.0, np.pi) == 0.0
    assert _distance(1.0, 0.0, 0.0) == 1.0


def test_bad_names(table):
    with pytest.raises(KeyError, match="no column 'rouge'"):
        pl.reconstruction(table, "rouge")
    with pytest.raises(ValueError, match="no method 'best'"):
        pl.reconstruction_overlap(table, methods=["best"])
    with pytest.raises(ValueError, match="No cell has a 'spearman' of method 'model'"):
        pl.reconstruction(table.assign(spearman=np.nan))
    with pytest.raises(ValueError, match="nothing to draw"):
        pl.reconstruction_overlap(table.assign(n_shared=0, n_only_true=0, n_only_guessed=0))
