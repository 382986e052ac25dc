"""Embeddings side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ._style import MISSING_COLOR, colors_of, hide_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes

_LEGEND_ROWS = 16


def embeddings(
    adata: AnnData,
    keys: str | Sequence[str] | Mapping[str, str],
    color: str | Sequence[str],
    *,
    ncols: int | None = None,
    axes: Any = None,
    palette: Mapping[str, Any] | None = None,
    size: float | None = None,
    n_neighbors: int = 15,
    min_dist: float = 0.5,
    random_state: int = 0,
) -> npt.NDArray[np.object_]:
    """Draw UMAPs of several representations side by side, a row of panels for each colouring.

    Parameters
    ----------
    adata
        Cells; nothing is written into it.
    keys
        Representations in ``adata.obsm``, or titles with their keys. Those of two dimensions are drawn as they are.
    color
        Columns of ``adata.obs``, such as batch and cell type; numbers get a colour scale.
    ncols
        Representations beside each other, ``None`` for all.
    axes
        Axes to draw into, one for each colouring and representation; ``None`` for new ones.
    palette
        Colours of categories, by name; those that are not named get their own.
    size
        Size of the dots, ``None`` to choose by the number of cells.
    n_neighbors, min_dist, random_state
        Of :func:`scanpy.pp.neighbors` and :func:`scanpy.tl.umap`.

    Returns
    -------
    Axes, shape ``(n_colors, n_keys)``.

    Raises
    ------
    KeyError
        If there is no such representation or column.
    ValueError
        If a representation is not finite, or the number of axes is wrong.
    """
    titles = _titles(keys)
    names = [color] if isinstance(color, str) else list(color)
    for place, wanted in (("obsm", titles.values()), ("obs", names)):
        if missing := [key for key in wanted if key not in getattr(adata, place)]:
            msg = f"{missing} not found in adata.{place}; it has {list(getattr(adata, place))}."
            raise KeyError(msg)
    shown = min(ncols or len(titles), len(titles))
    if axes is None:
        grid = _new_grid(len(names), len(titles), shown, max(_legend_width(adata.obs[name]) for name in names))
    else:
        grid = _given_grid(axes, len(names), len(titles))
    points = [_flat(adata.obsm[key], key, n_neighbors, min_dist, random_state) for key in titles.values()]
    dot = size or float(np.clip(20_000 / max(adata.n_obs, 1), 0.5, 20))
    # shuffled, so that no category lies on top of the others
    order = np.random.default_rng(0).permutation(adata.n_obs)
    for row, name in zip(grid, names, strict=True):
        column, last = adata.obs[name], row[shown - 1]
        colors, handles = (column.to_numpy(), []) if _is_number(column) else _categories(column, palette)
        for ax, xy in zip(row, points, strict=True):
            dots = ax.scatter(*xy[order].T, s=dot, c=colors[order], linewidths=0, rasterized=True)
        if handles:
            _legend(last, handles, name)
        else:
            last.figure.colorbar(dots, cax=last.inset_axes((1.06, 0.15, 0.05, 0.7)), label=name)
    for i, (title, key) in enumerate(titles.items()):
        _label(grid[:, i], title, "UMAP" if np.shape(adata.obsm[key])[1] != 2 else title, i % shown == 0)
    return grid


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _titles(keys: str | Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    if isinstance(keys, Mapping):
        return dict(keys)
    return {key.removeprefix("X_"): key for key in ([keys] if isinstance(keys, str) else keys)}


def _new_grid(n_colors: int, n_keys: int, shown: int, legend: float) -> npt.NDArray[np.object_]:
    """New axes; representations that do not fit beside each other continue in further rows."""
    import matplotlib.pyplot as plt

    blocks = -(-n_keys // shown)
    size = (2.6 * shown + 0.3 + legend, 2.6 * n_colors * blocks + 0.3)
    _, cells = plt.subplots(n_colors * blocks, shown, figsize=size, squeeze=False, layout="constrained")
    # (block, color, column) to (color, block and column)
    grid = cells.reshape(blocks, n_colors, shown).swapaxes(0, 1).reshape(n_colors, blocks * shown)
    for ax in grid[:, n_keys:].ravel():
        ax.set_axis_off()
    return grid[:, :n_keys]


def _given_grid(axes: Any, n_colors: int, n_keys: int) -> npt.NDArray[np.object_]:
    grid = np.array(axes, dtype=object).ravel()
    if grid.size != n_colors * n_keys:
        msg = f"axes must be {n_colors} x {n_keys}, one for each colouring and representation, got {grid.size}."
        raise ValueError(msg)
    return grid.reshape(n_colors, n_keys)


def _flat(values: Any, key: str, n_neighbors: int, min_dist: float, random_state: int) -> npt.NDArray[np.float64]:
    """Representation in two dimensions, shape ``(n_cells, 2)``."""
    table = np.asarray(values, dtype=np.float64)
    if not np.isfinite(table).all():
        msg = f"adata.obsm[{key!r}] has values that are not finite."
        raise ValueError(msg)
    if table.shape[1] == 2:
        return table
    import scanpy as sc
    from anndata import AnnData

    # cells of their own, since scanpy writes its graph and its UMAP into what it is given
    cells = AnnData(obsm={"representation": table.astype(np.float32)})
    n_neighbors = min(n_neighbors, len(table) - 1)
    sc.pp.neighbors(cells, n_neighbors=n_neighbors, use_rep="representation", random_state=random_state)
    sc.tl.umap(cells, min_dist=min_dist, random_state=random_state)
    return cells.obsm["X_umap"]


def _categories(column: pd.Series, palette: Mapping[str, Any] | None) -> tuple[npt.NDArray[np.float64], list[Any]]:
    """Colour of each cell, shape ``(n_cells, 4)``, and an entry of the legend for each category."""
    from matplotlib.colors import to_rgba
    from matplotlib.lines import Line2D

    values = pd.Categorical(column).remove_unused_categories()
    chosen = {**colors_of(list(values.categories)), **(palette or {})}
    shades = {str(name): chosen[name] for name in values.categories}
    if (values.codes < 0).any():
        shades["missing"] = MISSING_COLOR
    # code -1, a missing value, is the last row
    table = np.array([to_rgba(shade) for shade in [*shades.values(), MISSING_COLOR]])
    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=5, color=shade, label=name)
        for name, shade in shades.items()
    ]
    return table[values.codes], handles


def _legend(ax: Axes, handles: list[Any], title: str) -> None:
    ax.legend(
        handles=handles,
        title=title,
        loc="center left",
        bbox_to_anchor=(1.02, 0.5),
        ncols=-(-len(handles) // _LEGEND_ROWS),
        fontsize=7,
        title_fontsize=8,
        alignment="left",
        frameon=False,
        handletextpad=0.1,
    )


def _legend_width(column: pd.Series) -> float:
    """Inches that the legend of a column takes, roughly."""
    if _is_number(column):
        return 0.8
    names = [str(name) for name in pd.Categorical(column).categories]
    longest = max(map(len, [*names, str(column.name), "missing"]))
    return (0.3 + 0.062 * longest) * -(-(len(names) + 1) // _LEGEND_ROWS)


def _label(column: npt.NDArray[np.object_], title: str, dimensions: str, is_first: bool) -> None:
    """Title on the uppermost panel of a representation; coordinates mean nothing and have no ticks."""
    column[0].set_title(title)
    for ax in column:
        ax.set(xticks=[], yticks=[], box_aspect=1)
        hide_frame(ax)
        if is_first:
            ax.set(xlabel=f"{dimensions} 1", ylabel=f"{dimensions} 2")
