"""Values of a registry as JSON, and back without loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_ARRAY, _FLOAT = "array", "float"


def to_plain(value: Any, where: str = "") -> Any:
    """Builtins that JSON can hold; arrays, and floats that JSON lacks, become objects.

    Raises
    ------
    TypeError
        If there is anything but builtins and NumPy's values, naming where.
    """
    if isinstance(value, np.ndarray):
        return {_ARRAY: to_plain(value.tolist(), where), "dtype": str(value.dtype)}
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
    """What :func:`to_plain` was given, tuples as lists."""
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {_ARRAY, "dtype"}:
        return _array(from_plain(value[_ARRAY]), str(value["dtype"]))
    if set(value) == {_FLOAT}:
        return float(value[_FLOAT])
    return {key: from_plain(item) for key, item in value.items()}


def _array(values: list[Any], dtype: str) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array if dtype == "object" else array.astype(np.dtype(dtype))
