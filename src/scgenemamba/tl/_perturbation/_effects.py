"""What perturbations do, over cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    from anndata import AnnData

EFFECTS = ("distance", "toward", "probability")


def perturbation_effects(
    perturbed: AnnData, *, effect: str | None = None, groupby: str | None = None, min_cells: int = 10
) -> pd.DataFrame:
    """Summarise perturbations over cells, and test them against genes that are as strongly expressed.

    In each cell, the effect of a gene is compared with its control, see :func:`perturb`; over cells, the differences are tested by
    Wilcoxon's signed-rank test, with the false discovery rate of Benjamini and Hochberg (1995) among the genes of a group. The test asks
    whether the gene does more (or less) to the model's view of these cells than others of its rank, and nothing about the living cell.

    Parameters
    ----------
    perturbed
        What :func:`perturb` returned.
    effect
        ``"distance"``, ``"toward"`` or ``"probability"``; ``None`` for the last of them that there is.
    groupby
        Column of ``perturbed.obs``: genes are summarised in each of its groups. Cells without a value are left out.
    min_cells
        Genes perturbed in fewer cells of a group are left out of it.

    Returns
    -------
    Table of one row a gene (and group), largest absolute effect first: ``group`` with ``groupby``, ``gene``, ``n_cells``, ``effect`` (mean
    over cells), ``std``, ``control`` (mean of the controls), ``p_value``, ``fdr``. The last two are NaN without controls.

    Raises
    ------
    KeyError
        If there is no such effect or column.
    ValueError
        If no gene was perturbed in so many cells.
    """
    name = _effect(perturbed, effect)
    parts = []
    for group, rows in _groups(perturbed, groupby):
        table = _summary(perturbed[rows], name, min_cells)
        if groupby is not None:
            table.insert(0, "group", group)
        parts.append(table)
    found = [part for part in parts if len(part)]
    if not found:
        msg = f"No gene was perturbed in {min_cells} cells{'' if groupby is None else ' of any group'}: lower `min_cells`."
        raise ValueError(msg)
    return pd.concat(found, ignore_index=True)


def _effect(perturbed: AnnData, effect: str | None) -> str:
    there = [name for name in EFFECTS if name in perturbed.layers]
    if not there:
        msg = "There are no effects in the layers: give what `tl.perturb` returned."
        raise KeyError(msg)
    if effect is not None and effect not in there:
        msg = f"`effect`: there is no {effect!r}; there is {there}. Ask `tl.perturb` for it by `label=` or `toward=`."
        raise KeyError(msg)
    return there[-1] if effect is None else effect


def _groups(perturbed: AnnData, groupby: str | None) -> Iterator[tuple[Any, npt.NDArray[np.int64]]]:
    if groupby is None:
        yield None, np.arange(perturbed.n_obs)
        return
    if groupby not in perturbed.obs:
        msg = f"`groupby`: there is no column {groupby!r}; there are {[*perturbed.obs.columns]}."
        raise KeyError(msg)
    values = perturbed.obs[groupby].astype("category").cat.remove_unused_categories()
    for code, group in enumerate(values.cat.categories):
        yield group, np.flatnonzero(values.cat.codes == code)


def _summary(perturbed: AnnData, name: str, min_cells: int) -> pd.DataFrame:
    from scipy.stats import false_discovery_control

    # what is stored was perturbed, also where it changed nothing
    effects = perturbed.layers[name].tocsc()
    controls = perturbed.layers[f"{name}_control"].tocsc()
    rows: list[dict[str, Any]] = []
    for gene, start, end in zip(perturbed.var_names, effects.indptr[:-1], effects.indptr[1:], strict=True):
        if end - start < max(min_cells, 1):
            continue
        values, control = effects.data[start:end].astype(float), controls.data[start:end].astype(float)
        spread = values.std(ddof=1) if len(values) > 1 else np.nan
        told = {"gene": gene, "n_cells": len(values), "effect": values.mean(), "std": spread}
        known = np.isfinite(control)
        mean = control[known].mean() if known.any() else np.nan
        rows.append(told | {"control": mean, "p_value": _p_value(values[known] - control[known])})
    columns = ["gene", "n_cells", "effect", "std", "control", "p_value"]
    table = pd.DataFrame(rows, columns=columns)
    tested = table["p_value"].notna()
    table["fdr"] = np.nan
    if tested.any():
        table.loc[tested, "fdr"] = false_discovery_control(table.loc[tested, "p_value"])
    return table.sort_values("effect", key=np.abs, ascending=False, kind="stable", ignore_index=True)


def _p_value(differences: npt.NDArray[np.float64]) -> float:
    from scipy.stats import wilcoxon

    if not len(differences):
        return np.nan
    if not differences.any():
        return 1.0
    return float(
        wilcoxon(
            differences, method="exact" if len(differences) <= 25 and _distinct(differences) else "asymptotic"
        ).pvalue
    )


def _distinct(differences: npt.NDArray[np.float64]) -> bool:
    """Whether the exact distribution holds: no zeros and no ties."""
    sizes = np.abs(differences)
    return bool(sizes.all()) and len(np.unique(sizes)) == len(sizes)
