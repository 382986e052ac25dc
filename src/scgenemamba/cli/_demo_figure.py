"""The figure of the demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

    from scgenemamba import GeneMambaModel


def draw_demo(adata: AnnData, model: GeneMambaModel, labels_key: str, is_query: np.ndarray, file: Path) -> None:
    """Embedding by label, prediction and cluster; confusion of the query; training curves.

    Parameters
    ----------
    adata
        All cells, with ``X_umap``, ``predicted`` and ``leiden``.
    model
        The trained model.
    labels_key
        Column of the true labels.
    is_query
        Cells whose labels were hidden, ``(n_cells,)``.
    file
        Where the picture goes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from scgenemamba import pl

    # a figure of its own canvas leaves the user's plotting backend alone
    figure = Figure(figsize=(16, 11), layout="constrained")
    FigureCanvasAgg(figure)
    halves: Any = figure.subfigures(2, 1, height_ratios=[1.05, 1])
    top, bottom = halves
    _draw_embeddings(adata, labels_key, top)
    confusion, total, labels = bottom.subplots(1, 3, width_ratios=[1.5, 1, 1])
    truth = adata.obs[labels_key].astype(str)[is_query]
    pl.confusion_matrix(truth, adata.obs["predicted"].astype(str)[is_query], ax=confusion)
    confusion.set_title(f"{is_query.sum()} query cells, labels hidden in training")
    pl.training_curves(model, ax=total)
    total.set_title("Total loss")
    pl.training_curves(model, metric="cell_type", ax=labels)
    labels.set_title("Cell type loss")
    figure.savefig(file, dpi=110)


def _draw_embeddings(adata: AnnData, labels_key: str, figure: SubFigure) -> None:
    import matplotlib as mpl

    true, predicted, clusters = figure.subplots(1, 3)
    columns = [adata.obs[labels_key].astype(str), adata.obs["predicted"].astype(str)]
    categories = sorted(set(columns[0]) | set(columns[1]))
    palette = dict(zip(categories, mpl.colormaps["tab20"](np.arange(len(categories)) % 20), strict=True))
    _scatter(true, adata, columns[0], palette, f"Annotation ({labels_key})")
    _scatter(predicted, adata, columns[1], palette, "Prediction")
    leiden = adata.obs["leiden"].astype(str)
    names = sorted(leiden.unique(), key=int)
    _scatter(
        clusters,
        adata,
        leiden,
        dict(zip(names, mpl.colormaps["tab20"](np.arange(len(names)) % 20), strict=True)),
        "Leiden clusters",
    )
    for name in names:
        middle = np.median(adata.obsm["X_umap"][leiden == name], axis=0)
        clusters.annotate(name, middle, ha="center", va="center", weight="bold")
    handles = [mpl.lines.Line2D([], [], marker="o", linestyle="", color=palette[c], label=c) for c in categories]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)), frameon=False)


def _scatter(ax: Axes, adata: AnnData, values: pd.Series, palette: dict[str, Any], title: str) -> None:
    points = adata.obsm["X_umap"]
    size = min(12_000 / adata.n_obs, 14)
    # shuffled, so that no label is drawn on top of the others
    order = np.random.default_rng(0).permutation(adata.n_obs)
    colors = np.array([palette[value] for value in values])
    ax.scatter(points[order, 0], points[order, 1], s=size, c=colors[order], linewidths=0)
    ax.set(title=title, xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2")
    ax.spines[["top", "right"]].set_visible(False)
