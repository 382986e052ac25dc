"""Embeddings side by side."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_hex

from scgenemamba import pl

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close():
    yield
    mpl.pyplot.close("all")


@pytest.fixture
def cells():
    """Two groups far from each other in every representation."""
    rng = np.random.default_rng(0)
    group = np.repeat([0.0, 50.0], 30)
    obs = pd.DataFrame({"type": np.where(group > 0, "B", "A"), "batch": ["x", "y"] * 30, "depth": np.arange(60.0)})
    obs.index = obs.index.astype(str)
    adata = AnnData(obs=obs)
    adata.obsm["X_flat"] = rng.normal(size=(60, 2)) + group[:, None]
    adata.obsm["X_deep"] = rng.normal(size=(60, 5)) + group[:, None]
    return adata


def points(ax):
    return np.asarray(ax.collections[0].get_offsets())


def texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_rows_are_colourings_and_columns_representations(cells):
    before = cells.copy()
    axes = pl.embeddings(cells, ["X_flat", "X_deep"], ["type", "batch"])
    assert axes.shape == (2, 2)
    assert [ax.get_title() for ax in axes[0]] == ["flat", "deep"]
    assert axes[1, 0].get_title() == ""
    # legends stand beside the last panel of their row
    assert [ax.get_legend() is None for ax in axes[:, 0]] == [True, True]
    assert texts(axes[0, 1]) == ["A", "B"]
    assert texts(axes[1, 1]) == ["x", "y"]
    np.testing.assert_array_equal(points(axes[0, 1]), points(axes[1, 1]))
    assert set(cells.obsm) == set(before.obsm)
    assert not [*cells.uns, *cells.obsp]
    pd.testing.assert_frame_equal(cells.obs, before.obs)


def test_two_dimensions_are_drawn_as_they_are_and_more_become_a_umap(cells):
    ((flat, deep),) = pl.embeddings(cells, {"Flat": "X_flat", "Deep": "X_deep"}, "type")
    given = cells.obsm["X_flat"]
    np.testing.assert_allclose(np.sort(points(flat), axis=0), np.sort(given, axis=0))
    assert (flat.get_xlabel(), flat.get_title()) == ("Flat 1", "Flat")
    assert points(deep).shape == (60, 2)
    # cells of one colour lie together: colours belong to the right cells
    colors = np.array([to_hex(color) for color in deep.collections[0].get_facecolors()])
    one, two = (points(deep)[colors == color] for color in np.unique(colors))
    assert len(one) == len(two) == 30
    spread = max(group.std(axis=0).max() for group in (one, two))
    assert np.abs(one.mean(axis=0) - two.mean(axis=0)).max() > 3 * spread


def test_the_same_umap_every_time(cells):
    first, second = (points(pl.embeddings(cells, "X_deep", "type")[0, 0]) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_numbers_get_a_scale_and_missing_values_grey(cells):
    cells.obs.loc[cells.obs_names[:5], "type"] = np.nan
    axes = pl.embeddings(cells, "X_flat", ["type", "depth"], palette={"A": "#123456"})
    assert texts(axes[0, 0]) == ["A", "B", "missing"]
    colors = [to_hex(color) for color in axes[0, 0].collections[0].get_facecolors()]
    assert colors.count("#123456") == 25
    assert colors.count(to_hex("0.8")) == 5
    assert axes[1, 0].get_legend() is None
    np.testing.assert_array_equal(np.sort(axes[1, 0].collections[0].get_array()), np.arange(60))


def test_representations_continue_in_further_rows(cells):
    axes = pl.embeddings(cells, {"1": "X_flat", "2": "X_flat", "3": "X_flat"}, ["type", "batch"], ncols=2)
    assert axes.shape == (2, 3)
    assert [ax.get_title() for ax in axes[0]] == ["1", "2", "3"]
    tops = [[round(ax.get_subplotspec().rowspan.start) for ax in row] for row in axes]
    assert tops == [[0, 0, 2], [1, 1, 3]]
    empty = [ax for ax in axes[0, 0].figure.axes if not ax.axison]
    assert len(empty) == 2


def test_given_axes_are_drawn_into(cells):
    figure, given = mpl.pyplot.subplots(1, 2)
    axes = pl.embeddings(cells, ["X_flat"], ["type", "batch"], axes=given)
    assert axes.shape == (2, 1)
    assert list(axes.ravel()) == list(given)
    with pytest.raises(ValueError, match="1 x 1.*got 2"):
        pl.embeddings(cells, "X_flat", "type", axes=given)


def test_what_is_missing_is_named(cells):
    with pytest.raises(KeyError, match="X_none.*obsm.*X_flat"):
        pl.embeddings(cells, ["X_flat", "X_none"], "type")
    with pytest.raises(KeyError, match="donor.*obs.*batch"):
        pl.embeddings(cells, "X_flat", ["type", "donor"])
    cells.obsm["X_flat"][3, 0] = np.nan
    with pytest.raises(ValueError, match="X_flat.*not finite"):
        pl.embeddings(cells, "X_flat", "type")


@pytest.mark.parametrize("n", [1, 9, 10, 27, 40])
def test_colours_differ(n):
    from scgenemamba.pl._style import colors_of

    colors = colors_of([f"type{i}" for i in range(n)])
    assert len({to_hex(color) for color in colors.values()}) == n == len(colors)
