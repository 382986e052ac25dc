"""Read pickles that hold only plain data, and refuse all others."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# ways to reach an object other than find_class: registered extensions and persistent ids
_REFUSED = frozenset({"EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID"})
_ERRORS = (pickle.UnpicklingError, AttributeError, EOFError, IndexError, KeyError, TypeError, ValueError, MemoryError)


def _latin1(text: str, encoding: str) -> bytes:
    """Bytes as protocols 0 to 2 write them; the real ``codecs.encode`` would look for any codec."""
    if encoding != "latin1":
        msg = f"text in {encoding}"
        raise ValueError(msg)
    return text.encode(encoding)


def _number_type(code: str, *_: object) -> np.dtype[Any]:
    """Type of plain numbers: arrays of objects could be forged. A copy, because the pickle may change it."""
    if np.dtype(code).kind not in "biuf":
        msg = f"values of type {code}"
        raise ValueError(msg)
    return np.dtype(code, False, True)


def _allowed() -> dict[tuple[str, str], Callable[..., Any]]:
    array = np.zeros(1)
    allowed: dict[tuple[str, str], Any] = {("numpy", "dtype"): _number_type, ("numpy", "ndarray"): np.ndarray}
    # numpy 1 and numpy 2
    for package in ("numpy.core", "numpy._core"):
        allowed[f"{package}.multiarray", "scalar"] = np.float64(0).__reduce__()[0]
        allowed[f"{package}.multiarray", "_reconstruct"] = array.__reduce__()[0]
        allowed[f"{package}.numeric", "_frombuffer"] = array.__reduce_ex__(5)[0]
    allowed["_codecs", "encode"] = _latin1
    return allowed


class _PlainUnpickler(pickle.Unpickler):
    """Unpickler that knows numpy's scalars and arrays, and nothing else."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self._allowed = _allowed()

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Refuse everything but the parts of numbers."""
        if (module, name) not in self._allowed:
            msg = f"it asks for {module}.{name}"
            raise pickle.UnpicklingError(msg)
        return self._allowed[module, name]


def read_plain_pickle(path: str | os.PathLike[str]) -> object:
    """Content of a pickle of builtins, numpy scalars and numpy arrays.

    Nothing from the file is imported or executed.

    Raises
    ------
    ValueError
        If the file is no pickle, or needs anything else to be read.
    """
    path = Path(path)
    data = path.read_bytes()
    try:
        for opcode, _, _ in pickletools.genops(data):
            if opcode.name in _REFUSED:
                msg = f"it uses {opcode.name}"
                raise pickle.UnpicklingError(msg)
        return _PlainUnpickler(data).load()
    except _ERRORS as error:
        msg = f"{path.name} is not a pickle of plain numbers, or not safe to read ({error}). Save it as .tsv or .json."
        raise ValueError(msg) from error
