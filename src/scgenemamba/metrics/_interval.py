"""Mean and interval of a score over seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


class Interval(NamedTuple):
    """Mean of repeated measurements, with the bounds of its t interval (NaN for a single one)."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Distance from the mean to a bound."""
        return self.high - self.mean

    def __str__(self) -> str:
        if np.isnan(self.mean):
            return "-"
        return f"{self.mean:.3f}" if np.isnan(self.half_width) else f"{self.mean:.3f} ± {self.half_width:.3f}"


def mean_interval(values: Sequence[float] | np.ndarray, *, confidence: float = 0.95) -> Interval:
    """Mean and Student's t interval of a score measured with several seeds.

    Parameters
    ----------
    values
        One score a seed, shape ``(n_seeds,)``. Missing ones (NaN) are left out.
    confidence
        Probability that the interval covers the mean over all seeds.

    Raises
    ------
    ValueError
        If ``confidence`` is not between 0 and 1.
    """
    from scipy.stats import t

    if not 0 < confidence < 1:
        msg = f"confidence must be between 0 and 1, got {confidence}."
        raise ValueError(msg)
    known = np.asarray(values, dtype=float).ravel()
    known = known[~np.isnan(known)]
    if not len(known):
        return Interval(np.nan, np.nan, np.nan, 0)
    mean = float(known.mean())
    if len(known) == 1:
        return Interval(mean, np.nan, np.nan, 1)
    error = float(known.std(ddof=1) / np.sqrt(len(known)) * t.ppf((1 + confidence) / 2, len(known) - 1))
    return Interval(mean, mean - error, mean + error, len(known))


def with_bounds(names: tuple[str, str, str], scores: np.ndarray, confidence: float) -> dict[str, float]:
    """A score and the bounds of its resamples, by name.

    Parameters
    ----------
    names
        Of the score and its bounds.
    scores
        Score of all, then of each resample, ``(n_resamples + 1,)``; without resamples the bounds are NaN.
    confidence
        Share of the resamples within the bounds.
    """
    tail = (1 - confidence) / 2
    bounds = np.quantile(scores[1:], [tail, 1 - tail]) if len(scores) > 1 else (np.nan, np.nan)
    return dict(zip(names, map(float, (scores[0], *bounds)), strict=True))
