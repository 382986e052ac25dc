"""Reconstructed rankings: scores of cells by method, and genes that truth and guess share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from ._style import MISSING_COLOR, colors_of, hide_frame, legend_above, new_axes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

_WITHIN = {"spearman": (-1.0, 1.0), "levenshtein": (0.0, 1.0), "bleu": (0.0, 1.0), "overlap": (0.0, 1.0)}
_SHARE = (0.0, 1.0)
_BETTER_LOW = ("loss", "levenshtein")
_OVERLAP = ["n_shared", "n_only_true", "n_only_guessed"]


def reconstruction(
    table: pd.DataFrame, score: str = "spearman", *, methods: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw how a score is distributed over cells, a density for each method; short lines mark the means.

    A method whose score is the same in all cells is a dashed line.

    Parameters
    ----------
    table
        Of :func:`scgenemamba.tl.rank_reconstruction`.
    score
        Column to draw.
    methods
        Methods in the order of the legend, ``None`` for all.
    ax
        Axes to draw into, ``None`` for new ones.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If there is no such method, or no cell has the score.
    """
    values = _by_method(table, score, methods)
    lowest, highest = _limits(score, values)
    ax = new_axes(4.8, 3.2) if ax is None else ax
    colors = colors_of(list(values))
    for name, numbers in values.items():
        label = f"{name}: mean {numbers.mean():.3f} (n={len(numbers):,})"
        if not np.ptp(numbers):
            # a density without width would leave no room for the others
            ax.axvline(numbers[0], color=colors[name], linestyle="--", label=label)
            continue
        x, density = _density(numbers, lowest, highest)
        ax.plot(x, density, color=colors[name], label=label)
        ax.fill_between(x, density, color=colors[name], alpha=0.12, linewidth=0)
        ax.axvline(float(numbers.mean()), ymax=0.06, color=colors[name], linewidth=2)
    better = "lower" if score in _BETTER_LOW else "higher"
    ax.set(xlabel=f"{score} of a cell ({better} is better)", ylabel="density of cells", ylim=(0, None))
    ax.set_xlim(lowest, highest)
    hide_frame(ax)
    legend_above(ax)
    return ax


def reconstruction_overlap(
    table: pd.DataFrame, *, methods: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw how many genes a reconstruction shares with the truth, wherever they stand: two circles for each method.

    Areas are proportional to numbers of genes, summed over cells.

    Parameters
    ----------
    table
        Of :func:`scgenemamba.tl.rank_reconstruction`, or of :func:`scgenemamba.tl.leaky_rank_reconstruction`.
    methods
        Methods from left to right, ``None`` for all.
    ax
        Axes to draw into, ``None`` for new ones.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If there is no such method, or there are no genes.
    """
    sums = {name: _by_method(table, name, methods) for name in _OVERLAP}
    counts = {name: [int(sums[part][name].sum()) for part in _OVERLAP] for name in sums[_OVERLAP[0]]}
    largest = max(max(shared + true, shared + guessed) for shared, true, guessed in counts.values())
    if not largest:
        msg = "There is nothing to draw: no genes are counted in `table`."
        raise ValueError(msg)
    ax = new_axes(2.1 * len(counts), 2.5) if ax is None else ax
    colors = colors_of(list(counts))
    for i, (name, (shared, true, guessed)) in enumerate(counts.items()):
        _draw_circles(ax, 4.6 * i, (shared, true, guessed), largest, colors[name])
        share = shared / max(shared + true, 1)
        ax.text(4.6 * i, 1.55, f"{name}\n{share:.1%} of the genes", ha="center", va="bottom", fontsize=8)
    ax.text(
        0.5, 0.0, "grey: only in the truth; colour: only in the reconstruction", transform=ax.transAxes, ha="center",
        va="bottom", fontsize=8,
    )  # fmt: skip
    ax.set(xlim=(-2.3, 4.6 * len(counts) - 2.3), ylim=(-1.9, 2.3), xticks=[], yticks=[], aspect="equal")
    ax.set_axis_off()
    return ax


def _draw_circles(ax: Axes, middle: float, counts: tuple[int, int, int], largest: int, color: object) -> None:
    """Circles of the truth and the reconstruction; one of ``largest`` genes has a radius of 1."""
    from matplotlib.patches import Circle

    shared, true, guessed = counts
    radii = [float(np.sqrt((shared + own) / largest)) for own in (true, guessed)]
    distance = _distance(radii[0], radii[1], np.pi * shared / largest)
    left, right = middle - distance / 2, middle + distance / 2
    for x, radius, shade in ((left, radii[0], MISSING_COLOR), (right, radii[1], color)):
        ax.add_patch(Circle((x, 0), radius, facecolor=shade, alpha=0.6, edgecolor="0.3", linewidth=0.8))
    for x, number, weight in ((-1.5, true, "normal"), (0, shared, "bold"), (1.5, guessed, "normal")):
        ax.text(middle + x, -1.1, f"{number:,}", ha="center", va="top", fontsize=8, weight=weight)


def _distance(first: float, second: float, area: float) -> float:
    """Distance of the middles of two circles that share an area."""
    from scipy.optimize import brentq

    nearest, farthest = abs(first - second), first + second
    if area <= 0 or not min(first, second):
        return farthest
    if area >= np.pi * min(first, second) ** 2 * (1 - 1e-9):
        return nearest
    return float(brentq(lambda d: _lens(first, second, d) - area, nearest + 1e-12, farthest))


def _lens(a: float, b: float, distance: float) -> float:
    """Area that circles of radius ``a`` and ``b`` share."""
    total = 0.0
    for own, other in ((a, b), (b, a)):
        reach = (distance**2 + own**2 - other**2) / (2 * distance)
        angle = float(np.arccos(np.clip(reach / own, -1, 1)))
        total += own**2 * (angle - np.sin(2 * angle) / 2)
    return total


def _by_method(table: pd.DataFrame, column: str, methods: Sequence[str] | None) -> dict[str, npt.NDArray[np.float64]]:
    """Known values of a column by method."""
    for name in ("method", column):
        if name not in table:
            msg = f"`table` has no column {name!r}; it has {[*table.columns]}."
            raise KeyError(msg)
    labels = table["method"].astype(str)
    there = [*pd.unique(labels)]
    unknown = [name for name in methods or [] if name not in there]
    if unknown or not there:
        msg = f"`methods`: there is no method {unknown[0]!r}; there are {there}." if unknown else "`table` is empty."
        raise ValueError(msg)
    chosen = there if methods is None else [*methods]
    values = {name: table.loc[labels == name, column].dropna().to_numpy(float) for name in chosen}
    empty = [name for name, numbers in values.items() if not len(numbers)]
    if empty:
        msg = f"No cell has a {column!r} of method {empty[0]!r}."
        raise ValueError(msg)
    return values


def _limits(score: str, values: dict[str, npt.NDArray[np.float64]]) -> tuple[float, float]:
    every = np.concatenate([*values.values()])
    margin = 0.05 * max(float(np.ptp(every)), 1e-6)
    least, most = _WITHIN.get(score, _SHARE if score.startswith("top_") else (-np.inf, np.inf))
    return max(float(every.min()) - margin, least), min(float(every.max()) + margin, most)


def _density(
    values: npt.NDArray[np.float64], lowest: float, highest: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Kernel density within the limits, mirrored at them so that nothing is lost beyond."""
    from scipy.stats import norm

    x = np.linspace(lowest, highest, 400)
    spread = float(values.std())
    # Silverman's rule; values that are all the same still have a width that can be seen
    width = max(1.06 * spread * len(values) ** -0.2, (highest - lowest) / 150)
    mirrored = np.concatenate([values, 2 * lowest - values, 2 * highest - values])
    # in bins, so that any number of cells takes the same memory
    counts, edges = np.histogram(mirrored, bins=1200, range=(2 * lowest - highest, 2 * highest - lowest))
    middles = (edges[1:] + edges[:-1]) / 2
    return x, norm.pdf((x[:, None] - middles) / width) @ counts / (len(values) * width)
