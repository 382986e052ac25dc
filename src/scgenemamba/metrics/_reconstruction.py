"""Scores of reconstructed cells by method, with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ._interval import with_bounds

if TYPE_CHECKING:
    import numpy.typing as npt

_LOWER_IS_BETTER = frozenset({"loss", "levenshtein"})
_NO_SCORES = frozenset({"n_hidden", "n_shared", "n_only_true", "n_only_guessed"})
_COLUMNS = ["cell", "method"]


def reconstruction_scores(
    table: pd.DataFrame,
    *,
    by: str | None = None,
    control: str = "model",
    n_resamples: int = 1000,
    confidence: float = 0.95,
    random_state: int = 0,
) -> pd.DataFrame:
    """Mean score of each method over cells, and how much better another method is on the same cells.

    Intervals come from resampling cells, all methods alike: they tell how sure the numbers are for cells of this data set, not of
    other donors or laboratories.

    Parameters
    ----------
    table
        Of :func:`scgenemamba.tl.rank_reconstruction`: a row for each cell and method. Every column of numbers but those
        that count genes is a score.
    by
        Column whose values are scored each on its own, ``None`` for all cells together.
    control
        The method that the others are compared with.
    n_resamples
        Number of resamples.
    confidence
        Share of the resamples within the intervals.
    random_state
        Seed of the resamples.

    Returns
    -------
    Table by (value of ``by``,) score and method, with ``mean``, ``low``, ``high``, the ``gain`` of the control over the method, its
    ``gain_low`` and ``gain_high``, and ``n_cells``. A gain above 0 means that the control is better: for ``loss`` and ``levenshtein``, that
    its score is lower. Cells for which a score is not defined are left out of it.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If there is no such method, a cell does not have one row for each method, or an argument is out of range.
    """
    _check(table, by, control, n_resamples, confidence)
    parts = {None: table} if by is None else dict(iter(table.groupby(by, observed=True, sort=True)))
    rows = {}
    for value, part in parts.items():
        wide = _wide(part.drop(columns=[] if by is None else by))
        generator = np.random.default_rng(random_state)
        for name in wide.columns.unique(0):
            scores = wide[name].dropna()
            values = scores.to_numpy(float)
            means = _resampled_means(values, n_resamples, generator)
            sign = -1 if name in _LOWER_IS_BETTER else 1
            # no minus before a zero
            gains = sign * (means[:, [scores.columns.get_loc(control)]] - means) + 0.0
            for i, method in enumerate(scores.columns):
                key = (name, str(method)) if by is None else (value, name, str(method))
                rows[key] = with_bounds(("mean", "low", "high"), means[:, i], confidence)
                rows[key] |= with_bounds(("gain", "gain_low", "gain_high"), gains[:, i], confidence) | {
                    "n_cells": len(values)
                }
    found = pd.DataFrame.from_dict(rows, orient="index")
    found.index = pd.MultiIndex.from_tuples(rows, names=[*([] if by is None else [by]), "score", "method"])
    return found


def _wide(table: pd.DataFrame) -> pd.DataFrame:
    """Scores by cell, columns by score and method in the order of the table."""
    names = [name for name in table.select_dtypes("number") if name not in _NO_SCORES and name not in _COLUMNS]
    methods = table["method"].astype(str)
    # names of cells may repeat, so a cell is told by its place among those of its method
    number = table.groupby(["cell", methods], observed=True, sort=False).cumcount()
    wide = pd.DataFrame(table[names].set_index([table["cell"].astype(str), number, methods]).unstack())
    return wide.reindex(columns=pd.MultiIndex.from_product([names, pd.unique(methods)]))


def _resampled_means(
    values: npt.NDArray[np.float64], n_resamples: int, generator: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Means ``(n_resamples + 1, m)`` of ``(n, m)``: of all rows, then of each resample."""
    n = len(values)
    if not n:
        return np.full((n_resamples + 1, values.shape[1]), np.nan)
    times = generator.multinomial(n, np.full(n, 1 / n), size=n_resamples)
    return np.concatenate([values.mean(0, keepdims=True), times @ values / n])


def _check(table: pd.DataFrame, by: str | None, control: str, n_resamples: int, confidence: float) -> None:
    for column in [*_COLUMNS, *([] if by is None else [by])]:
        if column not in table:
            msg = f"`table` has no column {column!r}; it has {[*table.columns]}."
            raise KeyError(msg)
    methods = pd.unique(table["method"].astype(str))
    if control not in methods:
        msg = f"`control`: there is no method {control!r}; there are {[*methods]}."
        raise ValueError(msg)
    of_cell = table.groupby("cell", observed=True)["method"].value_counts().unstack(fill_value=0)
    uneven = of_cell.index[(of_cell.nunique(axis=1) > 1).to_numpy()]
    if len(uneven):
        msg = f"`table`: cell {str(uneven[0])!r} does not have one row for each of the methods {[*methods]}."
        raise ValueError(msg)
    if n_resamples < 1 or not 0 < confidence < 1:
        msg = f"`n_resamples` must be at least 1 and `confidence` between 0 and 1, got {n_resamples} and {confidence}."
        raise ValueError(msg)
