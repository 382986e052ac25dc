"""Which labels are shown, and which are to be predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scgenemamba._logging import logger

from ._methods import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Sequence

SPLITS = ("by batch", "random", "scarce")
_QUERY_SHARE = 0.2
_SCARCE_SHARE = 0.1
_SCARCE_LEAST = 2


@dataclass(frozen=True)
class Split:
    """Cells whose labels are hidden.

    Parameters
    ----------
    kind
        One of ``SPLITS``.
    fold
        The batch that is the query, or empty.
    query
        Hidden cells, bool ``(n_cells,)``.
    seed
        Seed that drew the cells, ``None`` where nothing is drawn.
    """

    kind: str
    fold: str
    query: np.ndarray
    seed: int | None = None

    @property
    def name(self) -> str:
        """Kind and fold."""
        return f"{self.kind} {self.fold}".strip()

    def shown(self, labels: np.ndarray) -> np.ndarray:
        """Labels with those of the query hidden, shape ``(n_cells,)``."""
        return np.where(self.query, HIDDEN, labels).astype(object)


def make_splits(
    labels: np.ndarray, batch: np.ndarray, kinds: Sequence[str], seeds: Sequence[int], max_folds: int
) -> list[Split]:
    """Splits of cells.

    Parameters
    ----------
    labels, batch
        Of each cell, shape ``(n_cells,)``.
    kinds
        ``"by batch"`` hides the labels of one batch after the other, ``"random"`` those of a fifth of each type's cells,
        ``"scarce"`` all but a tenth of each type's cells, of which at least two are shown.
    seeds
        Seeds of the random ones.
    max_folds
        Most batches that are hidden in turn, the largest first.

    Raises
    ------
    ValueError
        If a kind is not known, or cannot be made of these cells.
    """
    splits = []
    for kind in kinds:
        if kind not in SPLITS:
            msg = f"Unknown split {kind!r}; choose from {', '.join(SPLITS)}."
            raise ValueError(msg)
        if kind == "by batch":
            splits += _by_batch(labels, batch, max_folds)
        else:
            splits += [Split(kind, "", _drawn(labels, kind, seed), seed) for seed in seeds]
    return splits


def _by_batch(labels: np.ndarray, batch: np.ndarray, max_folds: int) -> list[Split]:
    splits = []
    for name in pd.Series(batch).value_counts().index:
        query = batch == name
        reference = set(labels[~query])
        if len(reference) < 2 or not reference & set(labels[query]):
            logger.info(
                f"Batch {name} is no query: the other batches have {len(reference)} labels, or none of its own."
            )
            continue
        splits.append(Split("by batch", name, query))
    if not splits:
        msg = "No batch can be a query, as the others have too few labels. Choose splits 'random' and 'scarce'."
        raise ValueError(msg)
    return splits[:max_folds]


def _drawn(labels: np.ndarray, kind: str, seed: int) -> np.ndarray:
    """Query mask; types of one cell, or as few as are shown, stay with the labelled cells."""
    rng = np.random.default_rng(seed)
    query = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        if kind == "random":
            n_shown = len(members) - max(round(_QUERY_SHARE * len(members)), min(1, len(members) - 1))
        else:
            n_shown = max(round(_SCARCE_SHARE * len(members)), _SCARCE_LEAST)
        query[members[n_shown:]] = True
    if not query.any():
        msg = f"The split {kind!r} hides no cell: each label has {_SCARCE_LEAST} cells or fewer."
        raise ValueError(msg)
    return query
