"""The demo's second act: what the model that comes with the package calls the same cells, and why it disagrees."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from anndata import AnnData

_MODEL = "pbmc-small"
_KEY = "pbmc_small"
_LABELS = "bulk_labels"
#: What the model calls the types of scanpy's cells.
_SAME = {
    "CD4+/CD25 T Reg": "CD4 T cell",
    "CD4+/CD45RA+/CD25- Naive T": "CD4 T cell",
    "CD4+/CD45RO+ Memory": "CD4 T cell",
    "CD8+ Cytotoxic T": "CD8 T cell",
    "CD8+/CD45RA+ Naive Cytotoxic": "CD8 T cell",
    "CD14+ Monocyte": "CD14+ monocyte",
    "CD19+ B": "B cell",
    "CD34+": "CD34+ progenitor",
    "CD56+ NK": "NK cell",
    "Dendritic": "Dendritic cell",
}
#: Known markers among the 765 genes of scanpy's cells.
_MARKERS = {
    "CD14+ monocyte": ["S100A8", "S100A9"],
    "FCGR3A+ monocyte": ["FCGR3A", "LST1"],
    "Dendritic cell": ["FCER1A", "CLEC10A"],
    "CD4 T cell": ["CD3D", "IL7R"],
    "CD8 T cell": ["CD8A", "CD8B"],
    "NK cell": ["GNLY", "NKG7"],
    "B cell": ["CD79A", "MS4A1"],
}
_FEWEST = 10


def label_demo(adata: AnnData, figure: Path) -> None:
    """Label scanpy's cells, print where given labels differ with the markers that speak for either, and draw it.

    Parameters
    ----------
    adata
        The cells, with log-normalised genes in ``raw``; gets the columns of :func:`~scgenemamba.tl.annotate`.
    figure
        Where the picture goes.
    """
    from scgenemamba import GeneMambaModel, tl

    cells = adata.raw.to_adata()
    cells.obs = adata.obs[[_LABELS]].copy()
    model = GeneMambaModel.from_pretrained(_MODEL, cells)
    tl.annotate(model, cells, key_added=_KEY)
    for name in cells.uns[_KEY]["columns"]:
        adata.obs[name] = cells.obs[name]
    given, said = cells.obs[_LABELS].astype(str), cells.obs[f"{_KEY}_label"].astype(str)
    agree = given.map(_SAME) == said
    table = _disagreements(cells, given, said)
    lines = [
        "",
        f"The model that comes with the package, {_MODEL}, which never saw these cells, calls {agree.mean():.0%} of them as they are "
        f"labelled. Groups of at least {_FEWEST} cells on which they differ, and mean log expression of markers:",
        table.to_string(index=False) if len(table) else "none.",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    _draw(cells, given, said, figure)


def _disagreements(cells: AnnData, given: pd.Series, said: pd.Series) -> pd.DataFrame:
    """Groups of cells whose label and prediction differ, with the means of two markers of either."""
    rows = []
    for (label, prediction), n_cells in Counter(zip(given, said, strict=True)).most_common():
        if n_cells < _FEWEST or _SAME.get(label, label) == prediction:
            continue
        own = ((given == label) & (said == prediction)).to_numpy()
        pair = [_means(cells, own, _MARKERS.get(name, ())) for name in (_SAME.get(label, label), prediction)]
        rows.append(
            {"labelled": label, "predicted": prediction, "cells": n_cells, "for label": pair[0], "against": pair[1]}
        )
    return pd.DataFrame(rows, columns=["labelled", "predicted", "cells", "for label", "against"])


def _means(cells: AnnData, own: np.ndarray, genes: Any) -> str:
    found = [gene for gene in genes if gene in cells.var_names]
    means: Any = np.asarray(cells[own, found].X.mean(axis=0)).ravel() if found else []
    return ", ".join(f"{gene} {mean:.1f}" for gene, mean in zip(found, means, strict=True)) or "-"


def _draw(cells: AnnData, given: pd.Series, said: pd.Series, file: Path) -> None:
    import scanpy as sc

    groups = given.str.cat(said, sep=" -> ")
    sizes = groups.value_counts()
    shown = cells[groups.isin(sizes.index[sizes >= _FEWEST]).to_numpy()].copy()
    names = pd.Categorical(groups[shown.obs_names])
    counted = {name: f"{name} ({sizes[name]})" for name in names.categories}
    shown.obs["label -> prediction"] = names.rename_categories(counted)
    markers = {name: [gene for gene in genes if gene in shown.var_names] for name, genes in _MARKERS.items()}
    plot: Any = sc.pl.dotplot(shown, markers, groupby="label -> prediction", use_raw=False, show=False, return_fig=True)
    plot.savefig(file, dpi=110, bbox_inches="tight")
