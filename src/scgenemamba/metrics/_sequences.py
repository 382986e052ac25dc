"""Scores of a sequence against another: edit distance and shared runs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence


def levenshtein(
    first: Sequence[Any] | npt.NDArray, second: Sequence[Any] | npt.NDArray, *, normalised: bool = True
) -> float:
    """Insertions, deletions and exchanges that turn one sequence into the other.

    Parameters
    ----------
    first, second
        Sequences of what can be told apart, such as token ids or gene names.
    normalised
        Divide by the length of the longer one: 0 for equal sequences, 1 if nothing can be kept; 0 for two empty ones.

    References
    ----------
    Levenshtein, Soviet Physics Doklady 10, 707 (1966).
    """
    a, b = _codes(first, second)
    steps = np.arange(len(b) + 1)
    row = steps.copy()
    for i, value in enumerate(a, start=1):
        changed = np.minimum(row[:-1] + (b != value), row[1:] + 1)
        # an insertion costs one: the minimum over all places before, less the steps from there
        row = np.minimum.accumulate(np.concatenate([[i], changed]) - steps) + steps
    longest = max(len(a), len(b))
    return float(row[-1] / max(longest, 1)) if normalised else float(row[-1])


def bleu(
    candidate: Sequence[Any] | npt.NDArray,
    reference: Sequence[Any] | npt.NDArray,
    *,
    max_n: int = 4,
    counted: Sequence[bool] | npt.NDArray[np.bool_] | None = None,
    smooth: bool = False,
) -> float:
    """BLEU of a sequence against one reference, from 0 to 1.

    Geometric mean of the shares of the candidate's runs of 1 to ``max_n`` entries that the reference has too, each as often at
    most as the reference has it, times ``exp(1 - r / c)`` if the candidate's length ``c`` is below the reference's, ``r``.

    Parameters
    ----------
    candidate, reference
        Sequences of what can be told apart.
    max_n
        Longest run; shorter candidates are scored by the runs that they have.
    counted
        Which places of the candidate are of interest: only runs that hold one of them are counted. ``None`` counts all.
    smooth
        Add one to the numerator and the denominator for runs of two and more, as Lin and Och do: short sequences without
        any long run in common are told apart still.

    Raises
    ------
    ValueError
        If ``max_n`` is not positive, or ``counted`` is not one value for each place of the candidate.

    References
    ----------
    Papineni et al., BLEU, ACL 2002; Lin and Och, ORANGE, COLING 2004.
    """
    if max_n < 1:
        msg = f"`max_n` must be at least 1, got {max_n}."
        raise ValueError(msg)
    ours, theirs = (codes.tolist() for codes in _codes(candidate, reference))
    of_interest = np.ones(len(ours), dtype=bool) if counted is None else np.asarray(counted, dtype=bool)
    if of_interest.shape != (len(ours),):
        msg = f"`counted` must have a value for each of {len(ours)} places of the candidate, got shape {of_interest.shape}."
        raise ValueError(msg)
    logs = []
    for n in range(1, max_n + 1):
        if len(ours) < n:
            break
        holds = np.convolve(of_interest, np.ones(n), mode="valid") > 0
        runs = Counter(run for run, held in zip(_runs(ours, n), holds, strict=True) if held)
        total = sum(runs.values())
        if not total:
            continue
        hits = sum((runs & Counter(_runs(theirs, n))).values())
        extra = int(smooth and n > 1)
        if not hits + extra:
            return 0.0
        logs.append(np.log((hits + extra) / (total + extra)))
    if not logs:
        return 0.0
    brevity = min(0.0, 1 - len(theirs) / len(ours))
    return float(np.exp(np.mean(logs) + brevity))


def _runs(values: list[int], n: int) -> list[tuple[int, ...]]:
    return list(zip(*(values[i:] for i in range(n)), strict=False)) if len(values) >= n else []


def _codes(
    first: Sequence[Any] | npt.NDArray, second: Sequence[Any] | npt.NDArray
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Both sequences as numbers, equal ones for equal entries."""
    codes: dict[Any, int] = {}

    def coded(values: Sequence[Any] | npt.NDArray) -> npt.NDArray[np.int64]:
        plain = values.tolist() if isinstance(values, np.ndarray) else values
        return np.array([codes.setdefault(value, len(codes)) for value in plain], dtype=np.int64)

    return coded(first), coded(second)
