"""Values of a registry as JSON, and back without loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_ARRAY, _FLOAT = "array", "float"
_FLOATS = ("nan", "inf", "-inf")
_DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")


def to_plain(value: Any, where: str = "") -> Any:
    """Builtins that JSON can hold; arrays, and floats that JSON lacks, become objects.

    Raises
    ------
    TypeError
        If there is anything but builtins and NumPy's values, naming where.
    """
    if isinstance(value, np.ndarray):
        kind = str(value.dtype) if str(value.dtype) in _DTYPES else "object"
        return {_ARRAY: to_plain(value.tolist(), where), "dtype": kind}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [to_plain(item, where) for item in value]
    if isinstance(value, dict):
        return {str(key): to_plain(item, f"{where}.{key}".lstrip(".")) for key, item in value.items()}
    msg = f"{where or 'The value'} holds {type(value).__name__}, which JSON cannot. Convert it to strings or numbers first."
    raise TypeError(msg)


def from_plain(value: Any) -> Any:
    """What :func:`to_plain` was given, tuples as lists.

    Raises
    ------
    ValueError
        If an array or number is none.
    """
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {_ARRAY, "dtype"}:
        return _array(from_plain(value[_ARRAY]), value["dtype"])
    if set(value) == {_FLOAT}:
        if value[_FLOAT] not in _FLOATS:
            msg = f"{value[_FLOAT]!r} in config.json is no float."
            raise ValueError(msg)
        return float(value[_FLOAT])
    return {key: from_plain(item) for key, item in value.items()}


def _array(values: Any, dtype: Any) -> np.ndarray:
    if not isinstance(values, list) or dtype not in (*_DTYPES, "object"):
        msg = f"An array in config.json must be a list of type 'object' or one of {_DTYPES}, got {dtype!r}."
        raise ValueError(msg)
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array if dtype == "object" else array.astype(dtype)
