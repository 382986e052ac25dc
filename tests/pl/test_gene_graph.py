"""Figures of genes and their nearest genes."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from scgenemamba import pl, tl
from tests.tl.test_gene_neighbors import table

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close():
    yield
    mpl.pyplot.close("all")


@pytest.fixture
def genes():
    genes = table()
    genes.obs["kind"] = pd.Categorical(["receptor", "enzyme", "other"] * 20)
    tl.gene_neighbors(genes, n_neighbors=8)
    return genes


def names(ax):
    return {text.get_text(): text for text in ax.texts}


def edges(ax):
    return next(c for c in ax.collections if isinstance(c, mpl.collections.LineCollection))


def test_a_gene_stands_among_its_nearest(genes):
    before = genes.copy()
    ax = pl.gene_graph(genes, "G4", n_neighbors=5)
    row = genes.obsp["gene_neighbors_connectivities"][[4]]
    nearest = {f"G{i}" for i in row.indices[np.argsort(-row.data)[:5]]}
    assert set(names(ax)) == nearest | {"G4"}
    assert {name for name, text in names(ax).items() if text.get_fontweight() == "bold"} == {"G4"}
    # edges between the neighbours too
    inside = [genes.obs_names.get_loc(name) for name in names(ax)]
    near = genes.obsp["gene_neighbors_connectivities"][inside][:, inside]
    assert len(edges(ax).get_segments()) == near.nnz / 2
    assert len(set(edges(ax).get_linewidths())) > 1
    assert [*genes.obs] == [*before.obs]
    assert {*genes.uns} == {*before.uns}
    assert {*genes.obsp} == {*before.obsp}
    assert not [*genes.obsm]


def test_the_same_picture_each_time_and_no_name_upon_another(genes):
    pictures = [pl.gene_graph(genes, ["G4", "G5", "G6"], n_neighbors=8) for _ in range(2)]
    spots = [np.array([text.xy for text in ax.texts]) for ax in pictures]
    np.testing.assert_array_equal(*spots)
    figure = pictures[0].figure
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in pictures[0].texts]
    hidden = sum(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert hidden == 0
    assert all(figure.bbox.containsx(x) for box in boxes for x in (box.x0, box.x1))


def test_crowded_points_make_room_for_their_names():
    from scgenemamba.pl._gene_graph import _ROOM, _spread

    spots = _spread(np.random.default_rng(0).normal(scale=0.1, size=(30, 2)))
    apart = np.linalg.norm((spots[:, None] - spots) / _ROOM, axis=2)[np.triu_indices(30, 1)]
    assert apart.min() > 0.7


def test_colours_are_of_numbers_or_categories(genes):
    ax = pl.gene_graph(genes, "G4", color="n_cells")
    drawn = {name: genes.obs.loc[name, "n_cells"] for name in names(ax)}
    points = next(c for c in ax.collections if c.get_array() is not None and len(c.get_array()))
    assert [*points.get_array()] == [*drawn.values()]
    ax = pl.gene_graph(genes, "G4", color="kind")
    legend = {
        text.get_text(): to_hex(patch.get_facecolor())
        for text, patch in zip(ax.get_legend().get_texts(), ax.get_legend().get_patches(), strict=True)
    }
    points = next(c for c in ax.collections if not isinstance(c, mpl.collections.LineCollection))
    for name, shade in zip(names(ax), points.get_facecolors(), strict=True):
        assert to_hex(shade) == legend[genes.obs.loc[name, "kind"]]


def test_given_axes_are_drawn_into_and_bad_arguments_named(genes):
    given = mpl.pyplot.subplots()[1]
    assert pl.gene_graph(genes, "G4", ax=given) is given
    with pytest.raises(KeyError, match="'CD3D' is not among"):
        pl.gene_graph(genes, "CD3D")
    with pytest.raises(KeyError, match="no column 'depth'"):
        pl.gene_graph(genes, "G4", color="depth")
    with pytest.raises(KeyError, match="no neighbours 'near'"):
        pl.gene_graph(genes, "G4", key="near")
    with pytest.raises(ValueError, match="at least 1"):
        pl.gene_graph(genes, "G4", n_neighbors=0)


def test_densities_of_known_and_other_pairs(genes):
    similarity = tl.gene_similarity(genes)
    pairs = pd.DataFrame(
        [(f"G{a}", f"G{b}", int(a % 4 == b % 4)) for a in range(20) for b in range(a)] + [("G1", "elsewhere", 1)],
        columns=["gene_1", "gene_2", "label"],
    )
    # rows and columns in different orders
    ax = pl.gene_pair_similarity(pairs, similarity.iloc[:, ::-1])
    known = [similarity.loc[a, b] for a, b, label in pairs.to_numpy() if label and b in similarity]
    assert ax.lines[0].get_xdata()[0] == pytest.approx(np.median(known))
    assert ax.lines[0].get_xdata()[0] > ax.lines[1].get_xdata()[0]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["known pairs (n=40)", "other pairs (n=150)"]
    with pytest.raises(KeyError, match="no column 'label'"):
        pl.gene_pair_similarity(pairs.drop(columns="label"), similarity)
    with pytest.raises(ValueError, match="0 other pairs out of 41"):
        pl.gene_pair_similarity(pairs[pairs["label"] == 1], similarity)
