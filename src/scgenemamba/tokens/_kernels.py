"""Compiled loops over the rows of CSR matrices; import this module only where it is called, numba is heavy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Ints = npt.NDArray[np.int64]
Ids = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Keys = npt.NDArray[np.uint64]

# numba turns a mix of int64 and uint64 into float64, hence the typed constants
_ONE = np.uint64(1)
_DIGIT = np.uint64(255)
# a key is what is sorted by, at most 24 bits, then the position that it comes from
_POSITION_BITS = np.uint64(40)
_POSITION = np.uint64(2**40 - 1)
_LEADING = np.uint64(2**24 - 1)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call, to run without the GIL; the result is kept on disk where that is possible."""
    try:
        return numba.njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # neither the installation nor the user's cache can be written
        return numba.njit(nogil=True, error_model="numpy")(function)


def parts_of(matrix: sp.csr_matrix) -> tuple[Ints, Ids, Floats]:
    """``indptr``, ``indices`` and ``data`` of the types that the loops are compiled for."""
    return (
        matrix.indptr.astype(np.int64, copy=False),
        matrix.indices.astype(np.int32, copy=False),
        matrix.data.astype(np.float64, copy=False),
    )


@compiled
def count_tokens(indptr: Ints, ids: Ids, values: Floats, factors: Floats, lengths: Ints) -> None:
    """Write how many entries of each row have a positive value and a positive factor."""
    for i in range(len(lengths)):
        n = 0
        for k in range(indptr[i], indptr[i + 1]):
            n += (values[k] > 0) and (factors[ids[k]] > 0)
        lengths[i] = n


@compiled
def rank_rows(
    indptr: Ints,
    ids: Ids,
    values: Floats,
    factors: Floats,
    starts: Ints,
    lengths: Ints,
    tokens: Ids,
    first: int,
    last: int,
) -> None:
    """Write the ids of rows ``[first, last)`` in descending order of value over factor, equal ones as they come.

    Row ``i`` fills ``lengths[i]`` tokens from ``starts[i]`` on.
    """
    width = 0
    for i in range(first, last):
        width = max(width, indptr[i + 1] - indptr[i])
    row_ids = np.empty(width, np.int32)
    scores = np.empty(width, np.float64)
    keys = np.empty(width, np.uint64)
    spare = np.empty(width, np.uint64)
    for i in range(first, last):
        n = 0
        for k in range(indptr[i], indptr[i + 1]):
            factor = factors[ids[k]]
            if values[k] > 0 and factor > 0:
                row_ids[n] = ids[k]
                scores[n] = values[k] / factor
                n += 1
        order = _sort_descending(scores[:n], keys[:n], spare[:n])
        for k in range(lengths[i]):
            tokens[starts[i] + k] = row_ids[order[k] & _POSITION]


@compiled
def _sort_descending(scores: Floats, keys: Keys, spare: Keys) -> Keys:
    """Keys in stable descending order of the scores; the low bits of a key are a score's position.

    The bits of positive floats are ordered like the floats. The 24 leading ones, of those that vary in the row, are
    sorted digit by digit; the few neighbours that differ only in the bits behind are then put right.
    """
    if len(scores) == 0:
        return keys
    bits = scores.view(np.uint64)
    low, high = bits[0], bits[0]
    for k in range(len(bits)):
        low, high = min(low, bits[k]), max(high, bits[k])
    shift = np.uint64(0)
    while (high - low) >> shift > _LEADING:
        shift += _ONE
    for k in range(len(bits)):
        keys[k] = ((high - bits[k]) >> shift) << _POSITION_BITS | np.uint64(k)
    keys = _sort_keys(keys, spare, 3)
    for k in range(1, len(keys)):
        key, score, j = keys[k], scores[keys[k] & _POSITION], k
        while j > 0 and scores[keys[j - 1] & _POSITION] < score:
            keys[j] = keys[j - 1]
            j -= 1
        keys[j] = key
    return keys


@compiled
def _sort_keys(keys: Keys, spare: Keys, n_digits: int) -> Keys:
    """Radix sort by the bytes above the position; the result is one of the two arrays."""
    places = np.empty(257, np.int64)
    for byte in range(n_digits):
        shift = _POSITION_BITS + np.uint64(8 * byte)
        places[:] = 0
        for k in range(len(keys)):
            places[((keys[k] >> shift) & _DIGIT) + _ONE] += 1
        for b in range(256):
            places[b + 1] += places[b]
        for k in range(len(keys)):
            digit = (keys[k] >> shift) & _DIGIT
            spare[places[digit]] = keys[k]
            places[digit] += 1
        keys, spare = spare, keys
    return keys


@compiled
def move_columns(
    indptr: Ints, columns: Ids, values: Floats, token_ids: Ids, n_digits: int, ends: Ints, ids: Ids, moved: Floats
) -> None:
    """Write the entries that have a token id in its order, those of one id summed, and where each row ends.

    Parameters
    ----------
    n_digits
        Bytes of the largest token id.
    """
    width = 0
    for i in range(len(ends)):
        width = max(width, indptr[i + 1] - indptr[i])
    keys = np.empty(width, np.uint64)
    spare = np.empty(width, np.uint64)
    end = 0
    for i in range(len(ends)):
        n = 0
        for k in range(indptr[i], indptr[i + 1]):
            if token_ids[columns[k]] >= 0:
                keys[n] = np.uint64(token_ids[columns[k]]) << _POSITION_BITS | np.uint64(k)
                n += 1
        order = _sort_keys(keys[:n], spare[:n], n_digits)
        for k in range(n):
            token = np.int32(order[k] >> _POSITION_BITS)
            value = values[order[k] & _POSITION]
            if k > 0 and token == ids[end - 1]:
                moved[end - 1] += value
            else:
                ids[end], moved[end] = token, value
                end += 1
        ends[i] = end


@compiled
def fill_columns(indptr: Ints, ids: Ids, values: Floats, column_of: Ids, result: npt.NDArray[np.float32]) -> None:
    """Write the values of the ids that have a column, dense."""
    for i in range(len(result)):
        for k in range(indptr[i], indptr[i + 1]):
            column = column_of[ids[k]]
            if column >= 0:
                result[i, column] = values[k]
