"""Genes among their nearest genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ._style import MISSING_COLOR, colors_of, legend_above, new_axes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from anndata import AnnData
    from matplotlib.axes import Axes

_MOST_CATEGORIES = 20
_ROOM = np.array([0.75, 0.32])  # inches around a name


def gene_graph(
    genes: AnnData,
    names: str | Sequence[str],
    *,
    key: str = "gene_neighbors",
    n_neighbors: int = 10,
    group: str | None = None,
    color: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw genes among those that a model places closest to them.

    Wider lines join more similar genes; the names of the genes that were asked for are bold.

    Parameters
    ----------
    genes
        Genes, after :func:`scgenemamba.tl.gene_neighbors`; nothing is written into them.
    names
        Gene or genes in the middle.
    key
        ``key_added`` of the neighbours.
    n_neighbors
        Nearest genes to draw of each; at most those that were found.
    group
        Group of cells, where genes were embedded in several.
    color
        Column of ``genes.obs``, of numbers or categories, ``None`` to set apart the genes asked for.
    ax
        Axes to draw into, ``None`` for new ones.

    Raises
    ------
    KeyError
        If there is no such gene, group, key or column.
    ValueError
        If ``n_neighbors`` is not positive, or a group has to be chosen.
    """
    import networkx as nx

    from scgenemamba.tl._genes._graph import connectivities
    from scgenemamba.tl._genes._table import genes_of_group, rows_of

    if n_neighbors < 1:
        msg = f"`n_neighbors` must be at least 1, got {n_neighbors}."
        raise ValueError(msg)
    if color is not None and color not in genes.obs:
        msg = f"`color`: genes.obs has no column {color!r}; it has {[*genes.obs.columns]}."
        raise KeyError(msg)
    similarity = connectivities(genes, key)
    centers = rows_of(genes, [names] if isinstance(names, str) else names, group)
    rows = _with_nearest(similarity, centers, n_neighbors)
    place = genes_of_group(genes, group)
    labels = pd.Series(place.index, index=place.to_numpy())[rows].to_numpy()
    graph = nx.from_scipy_sparse_array(similarity[rows][:, rows])
    graph.remove_edges_from([*nx.selfloop_edges(graph)])
    spots, middles = _layout(graph)
    ax = new_axes(*np.ptp(spots, axis=0) + (2.2 if color is None else 3.2, 1.2)) if ax is None else ax
    _draw_edges(ax, graph, spots)
    is_center = np.isin(rows, centers)
    if color is None:
        shades: Any = [colors_of(range(2))[int(not center)] for center in is_center]
        ax.scatter(
            spots[:, 0],
            spots[:, 1],
            c=shades,
            s=np.where(is_center, 70, 35),
            zorder=2,
            edgecolors="white",
            linewidths=0.8,
        )
    else:
        _draw_colored(ax, spots, genes.obs[color].iloc[rows], np.where(is_center, 70, 35))
    _draw_names(ax, spots, middles, labels, is_center)
    ax.set_axis_off()
    return ax


def _with_nearest(similarity: Any, centers: npt.NDArray[np.int64], n_neighbors: int) -> npt.NDArray[np.int64]:
    """Rows of the genes asked for, then of the most similar ones of each."""
    found = [*centers]
    for center in centers:
        row = similarity[[center]]
        found += [*row.indices[np.argsort(-row.data, kind="stable")][:n_neighbors]]
    return np.array([*dict.fromkeys(found)], dtype=np.int64)


def _layout(graph: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Places in inches ``(n, 2)``, more similar genes closer to each other; and the middle of each one's component, ``(n, 2)``.

    Components stand side by side: no force holds them together, and any distance between them would mean nothing.
    """
    import networkx as nx

    # largest first: rows are then of parts that are about as high
    parts = sorted(map(sorted, nx.connected_components(graph)), key=len, reverse=True)
    spots, middles = np.zeros((len(graph), 2)), np.zeros((len(graph), 2))
    widest = max(1.6 * len(graph) ** 0.5, 3.0)
    corner, height = np.zeros(2), 0.0
    for part in parts:
        piece = graph.subgraph(part)
        start = nx.circular_layout(piece)
        found = nx.spring_layout(piece, k=2.2 / len(part) ** 0.5, pos=start, iterations=300, seed=0)
        inside = _spread(np.array([found[i] for i in part]) * 0.42 * len(part) ** 0.5)
        inside -= inside.min(axis=0)
        if corner[0] and corner[0] + np.ptp(inside[:, 0]) > widest:
            corner, height = np.array([0.0, corner[1] + height]), 0.0
        spots[part], middles[part] = inside + corner, inside.mean(axis=0) + corner
        corner[0] += np.ptp(inside[:, 0]) + 1.8
        height = max(height, float(np.ptp(inside[:, 1])) + 0.8)
    # rows go down
    return spots * [1, -1], middles * [1, -1]


def _spread(spots: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Push points apart until names of usual length beside them do not hide each other."""
    scaled = spots / _ROOM
    for _ in range(200):
        apart = scaled[:, None] - scaled
        distance = np.linalg.norm(apart, axis=2)
        np.fill_diagonal(distance, np.inf)
        if distance.min(initial=np.inf) >= 1:
            break
        push = np.where(distance < 1, (1 - distance) / 2, 0) / np.maximum(distance, 1e-9)
        scaled = scaled + 0.5 * (push[..., None] * apart).sum(axis=1)
    return scaled * _ROOM


def _draw_edges(ax: Axes, graph: Any, spots: npt.NDArray[np.float64]) -> None:
    from matplotlib.collections import LineCollection

    ends = np.array([*graph.edges], dtype=np.int64).reshape(-1, 2)
    weight = np.array([value for _, _, value in graph.edges(data="weight")], dtype=np.float64)
    if len(weight):
        share = (weight - weight.min()) / max(float(np.ptp(weight)), 1e-6)
        ax.add_collection(LineCollection(list(spots[ends]), linewidths=0.4 + 2.6 * share, colors="0.75", zorder=1))


def _draw_colored(ax: Axes, spots: npt.NDArray[np.float64], values: pd.Series, sizes: npt.NDArray[np.int64]) -> None:
    from matplotlib.patches import Patch

    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        drawn = ax.scatter(
            spots[:, 0], spots[:, 1], c=values.to_numpy(), s=sizes, zorder=2, edgecolors="white", linewidths=0.8
        )
        ax.figure.colorbar(drawn, ax=ax, label=str(values.name), shrink=0.6)
        return
    shown = values.astype(str).where(values.notna(), None)
    palette: dict[Any, Any] = dict(colors_of(sorted(shown.dropna().unique())))
    shades: Any = [palette.get(value, MISSING_COLOR) for value in shown]
    ax.scatter(spots[:, 0], spots[:, 1], c=shades, s=sizes, zorder=2, edgecolors="white", linewidths=0.8)
    if len(palette) <= _MOST_CATEGORIES:
        legend_above(ax, [Patch(color=shade, label=name) for name, shade in palette.items()], str(values.name))


def _draw_names(
    ax: Axes,
    spots: npt.NDArray[np.float64],
    middles: npt.NDArray[np.float64],
    labels: npt.NDArray[Any],
    bold: npt.NDArray[np.bool_],
) -> None:
    """Names beside the points, on the side away from the middle."""
    from matplotlib.patheffects import withStroke

    for spot, middle, label, strong in zip(spots, middles, labels, bold, strict=True):
        right, up = spot >= middle
        ax.annotate(
            label, spot, (4 if right else -4, 3 if up else -3), textcoords="offset points",
            ha="left" if right else "right", va="bottom" if up else "top", fontsize=8,
            fontweight="bold" if strong else "normal", zorder=3, annotation_clip=False,
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip
    low, high = spots.min(axis=0), spots.max(axis=0)
    ax.set(xlim=(low[0] - 0.9, high[0] + 0.9), ylim=(low[1] - 0.4, high[1] + 0.4))
