"""Calibration of probabilities, and prediction sets with finite-sample coverage."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from ._features import Floats

_SMALLEST = 1e-12
#: Smallest probability that float32 holds in full.
TINY = float(np.finfo(np.float32).tiny)
_LARGEST_LOG_TEMPERATURE = 3.0


def tempered(probabilities: Floats, temperature: float, *, smallest: float = _SMALLEST) -> Floats:
    """Probabilities, of which none counts as smaller than ``smallest``, to the power ``1 / temperature``; they sum to one."""
    logs = np.log(np.maximum(probabilities, smallest)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def fit_temperature(probabilities: Floats, labels: npt.NDArray[np.int64]) -> float:
    """Temperature that makes the labels of calibration cells most likely (Guo et al. 2017)."""
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        right = tempered(probabilities, math.exp(log_temperature))[rows, labels]
        return float(-np.log(np.maximum(right, _SMALLEST)).mean())

    bound = _LARGEST_LOG_TEMPERATURE
    return math.exp(minimize_scalar(loss, bounds=(-bound, bound), method="bounded").x)


def temperature_of_confidence(probabilities: Floats, confidence: float) -> float:
    """Temperature at which the mean of the largest probabilities is as given, or as close as temperatures get."""

    def distance(log_temperature: float) -> float:
        return abs(float(tempered(probabilities, math.exp(log_temperature)).max(axis=1).mean()) - confidence)

    bound = _LARGEST_LOG_TEMPERATURE
    return math.exp(minimize_scalar(distance, bounds=(-bound, bound), method="bounded").x)


def nonconformity(probabilities: Floats, labels: npt.NDArray[np.int64]) -> Floats:
    """One minus the probability of the label, sorted; float32 ``(n,)`` (Sadinle et al. 2019)."""
    return np.sort(1 - probabilities[np.arange(len(labels)), labels])


def threshold(scores: Floats, coverage: float) -> float:
    """Largest nonconformity inside a prediction set that is to hold the label with a probability of ``coverage``.

    Infinite where there are too few calibration scores for that coverage: the sets then hold all labels.
    """
    rank = math.ceil((len(scores) + 1) * coverage)
    return float(scores[rank - 1]) if rank <= len(scores) else math.inf
