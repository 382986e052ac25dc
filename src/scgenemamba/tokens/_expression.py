"""What the values of a matrix are (counts, normalised, logarithms), and the way back to counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

# Natural logarithms of counts scaled to any usual total stay below 20; counts soon exceed it.
_LARGEST_LOGARITHM = 20.0
_BASES = (np.e, 2.0, 10.0)
_MULTIPLES = (1, 2, 3, 4)


@dataclass(frozen=True)
class Scale:
    """Scale of an expression matrix.

    Attributes
    ----------
    kind
        ``"counts"`` (non-negative integers), ``"linear"`` (normalised or fractional, not logarithmic)
        or ``"log"`` (``log1p`` of normalised counts).
    base
        Base of the logarithm, ``None`` unless ``kind`` is ``"log"``.
    resolution
        Rounding error of the stored values: that of float32, or of files written with few decimals.
    """

    kind: Literal["counts", "linear", "log"]
    base: float | None = None
    resolution: float = 5e-7

    def to_dict(self) -> dict[str, object]:
        """Plain values, for registries and JSON."""
        return asdict(self)

    def __str__(self) -> str:
        if self.kind == "log":
            return "log1p-normalised values, base " + ("e" if self.base == np.e else f"{self.base:g}")
        return {"counts": "counts", "linear": "normalised or fractional values"}[self.kind]


def check_values(matrix: sp.csr_matrix) -> tuple[int, int, float] | None:
    """Find the first value that no scale allows.

    Returns
    -------
    Row, column and value of the first negative or non-finite entry, ``None`` if there is none.
    """
    bad = np.flatnonzero(~np.isfinite(matrix.data) | (matrix.data < 0))
    if bad.size == 0:
        return None
    first = int(bad[0])
    row = int(np.searchsorted(matrix.indptr, first, side="right")) - 1
    return row, int(matrix.indices[first]), float(matrix.data[first])


def infer_scale(sample: sp.csr_matrix, log_base: float | None = None) -> Scale | None:
    """Tell counts, linear values and logarithms apart.

    Integers are counts. Otherwise a scale is taken as proven if it turns (nearly) every cell into
    multiples of that cell's smallest value, as counts divided by a library size are. Where none does, a
    recorded base is believed, and values above 20 are fractional counts, not logarithms.

    Parameters
    ----------
    sample
        Some cells, CSR, non-negative and finite, shape ``(n_cells, n_features)``.
    log_base
        Base that the data record for their logarithm, ``None`` if nothing is recorded.

    Returns
    -------
    The scale, ``None`` if it cannot be told.
    """
    sample = sample.astype(np.float64)
    sample.eliminate_zeros()
    if np.all(sample.data == np.round(sample.data)):
        return Scale("counts")
    resolution = _resolution(sample.data)
    bases = _BASES if log_base is None else (float(log_base), *_BASES)
    candidates = [Scale("linear", resolution=resolution)] + [Scale("log", base, resolution) for base in bases]
    for scale in candidates:
        if _share_of_integer_cells(sample, scale) >= 0.9:
            return scale
    if log_base is not None and sample.data.max() <= _LARGEST_LOGARITHM:
        return Scale("log", float(log_base), resolution)
    return Scale("linear", resolution=resolution) if sample.data.max() > _LARGEST_LOGARITHM else None


def counts_from(matrix: sp.csr_matrix, scale: Scale) -> sp.csr_matrix:
    """Bring values back to the linear scale, and to counts where a cell allows it.

    ``log1p`` is undone with ``expm1``. Then a cell whose values are multiples of its smallest one is
    divided by it, which gives the counts (up to a common factor of the cell) without rounding error, so
    that tokens equal those from the counts; other cells keep their linear values.

    Parameters
    ----------
    matrix
        CSR, shape ``(n_cells, n_features)``.
    scale
        What the values are.

    Returns
    -------
    CSR matrix of float64 of the same shape.
    """
    linear = _linear(matrix.astype(np.float64), scale)
    if scale.kind == "counts":
        return linear
    linear.eliminate_zeros()
    multiples, integer = _as_multiples(linear, scale.resolution)
    of_integer_cell = np.repeat(integer, np.diff(linear.indptr))
    linear.data = np.where(of_integer_cell, np.round(multiples), linear.data)
    return linear


def cells_of_another_scale(matrix: sp.csr_matrix, scale: Scale) -> npt.NDArray[np.int64]:
    """Rows of cells that cannot be on a scale: fractions among counts, and counts among logarithms.

    Linear values are the same to a rank encoding whether they are counts or not.
    """
    if scale.kind == "linear":
        return np.empty(0, dtype=np.int64)
    filled = np.flatnonzero(np.diff(matrix.indptr))
    whole = (
        np.logical_and.reduceat(matrix.data == np.round(matrix.data), matrix.indptr[filled]) if len(filled) else filled
    )
    return filled[~whole if scale.kind == "counts" else whole]


def _linear(matrix: sp.csr_matrix, scale: Scale) -> sp.csr_matrix:
    data = matrix.data
    if scale.base is not None:
        # a wrong candidate may overflow: inf is no integer multiple, so it is rejected
        with np.errstate(over="ignore"):
            data = np.expm1(data * np.log(scale.base))
    return sp.csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def _resolution(values: npt.NDArray[np.float64]) -> float:
    for decimals in (2, 3, 4):
        if np.allclose(values, np.round(values, decimals), rtol=0, atol=1e-6):
            return 0.5 * 10.0**-decimals
    return Scale("log").resolution


def _as_multiples(linear: sp.csr_matrix, resolution: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Values over a unit of their cell, and which cells are integer multiples of their unit.

    The smallest value may itself be 2, 3 or 4 counts, hence the multiples tried.
    """
    lengths = np.diff(linear.indptr)
    filled = lengths > 0
    starts = linear.indptr[:-1][filled]
    result = linear.data.copy()
    integer = np.zeros(len(lengths), dtype=bool)
    if not filled.any():
        return result, integer
    smallest = np.repeat(np.minimum.reduceat(linear.data, starts), lengths[filled])
    for multiple in _MULTIPLES:
        with np.errstate(invalid="ignore"):
            ratio = linear.data / smallest * multiple
            # rounded logarithms carry a relative error of a few times their resolution into the ratio
            off = np.abs(ratio - np.round(ratio)) > np.minimum(0.02 + 5 * resolution * ratio, 0.3)
        off |= ~np.isfinite(ratio)
        good = np.zeros(len(lengths), dtype=bool)
        good[filled] = ~np.logical_or.reduceat(off, starts)
        fresh = good & ~integer
        result = np.where(np.repeat(fresh, lengths), ratio, result)
        integer |= good
    return result, integer


def _share_of_integer_cells(sample: sp.csr_matrix, scale: Scale) -> float:
    linear = _linear(sample, scale)
    _, integer = _as_multiples(linear, scale.resolution)
    # a cell of a few equal values is a multiple on any scale and tells nothing
    informative = np.array(
        [len(np.unique(sample.data[a:b])) >= 4 for a, b in zip(sample.indptr[:-1], sample.indptr[1:], strict=True)],
        dtype=bool,
    )
    return float(integer[informative].mean()) if informative.any() else 0.0
