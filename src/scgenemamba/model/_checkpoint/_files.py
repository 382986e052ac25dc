"""Reading and writing the files of a checkpoint, trusting nothing that they say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
TOKENIZERS = (TOKENIZER, "gene_tokenizer.json")

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
_LARGEST_JSON = 64 * 2**20
_LARGEST_HEADER = 32 * 2**20
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*\.safetensors")


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises
    ------
    ValueError
        If it is no JSON, or too large to be what it should.
    """
    if path.stat().st_size > _LARGEST_JSON:
        msg = f"{path.name} has {path.stat().st_size / 2**20:.0f} MB, more than any file of its kind."
        raise ValueError(msg)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        msg = f"{path.name} is no valid JSON: {error}"
        raise ValueError(msg) from error


def read_json_object(path: Path) -> dict[str, Any]:
    """Content of a JSON file that must be an object."""
    content = read_json(path)
    if not isinstance(content, dict):
        msg = f"{path.name} must hold a JSON object, not {type(content).__name__}."
        raise ValueError(msg)
    return content


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write a safetensors file that others can read as well, as far as the user's mask of permissions lets them."""
    path.touch()
    permissions = path.stat().st_mode
    path.unlink()
    save_file(dict(tensors), path, metadata={"format": "pt"})
    path.chmod(permissions)


class WeightFiles:
    """Tensors of one or several safetensors files.

    Shapes are known from the start, values are read later.

    Parameters
    ----------
    folder
        Holds ``model.safetensors``, or ``model.safetensors.index.json`` and the files it names.

    Raises
    ------
    FileNotFoundError
        If there are no weights.
    ValueError
        If a file is broken, or the index names anything but files beside it.
    """

    def __init__(self, folder: Path) -> None:
        self.paths = _weight_paths(folder)
        self.n_bytes = sum(path.stat().st_size for path in self.paths)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._path_of: dict[str, Path] = {}
        for path in self.paths:
            for name, shape in _checked_header(path).items():
                if name in self.shapes:
                    msg = f"Tensor {name!r} is in both {self._path_of[name].name} and {path.name}."
                    raise ValueError(msg)
                self.shapes[name], self._path_of[name] = shape, path

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def tensors(self, names: Mapping[str, str]) -> Tensors:
        """Some tensors under new names.

        Parameters
        ----------
        names
            New name of each tensor of the files.

        Raises
        ------
        ValueError
            If a tensor is no floating point one, or holds NaN or infinite values.
        """
        tensors = Tensors({new: (self._path_of[old], old) for old, new in names.items()})
        for name in tensors:
            # each is read once now, so that nothing is made of a broken file
            tensors[name]
        return tensors


class Tensors(Mapping[str, torch.Tensor]):
    """Tensors that are read when they are asked for, in float32: a large file is never in memory twice.

    Parameters
    ----------
    places
        File and name in it of each tensor.
    """

    def __init__(self, places: Mapping[str, tuple[Path, str]]) -> None:
        self._places = places

    def __getitem__(self, name: str) -> torch.Tensor:
        path, stored = self._places[name]
        with _opened(path) as file:
            try:
                return _checked(stored, file.get_tensor(stored))
            except SafetensorError as error:
                msg = f"Tensor {stored!r} of {path.name} cannot be read: {error}"
                raise ValueError(msg) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def only(self, prefix: str) -> Tensors:
        """Those whose names begin with a prefix, without it."""
        return Tensors({k.removeprefix(prefix): v for k, v in self._places.items() if k.startswith(prefix)})


def load_tensors(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy tensors into the parameters and buffers of a module, one at a time.

    Raises
    ------
    ValueError
        If names or shapes are not those of the module.
    """
    # how many batches a norm has seen does not matter
    state = {name: values for name, values in module.state_dict().items() if values.is_floating_point()}
    lost, extra = sorted(set(state) - set(tensors)), sorted(set(tensors) - set(state))
    for names, what in ((lost, "are missing"), (extra, "belong to nothing")):
        if names:
            msg = f"{len(names)} tensors {what}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}."
            raise ValueError(msg)
    for name, target in state.items():
        values = tensors[name]
        if values.shape != target.shape:
            msg = f"Tensor {name!r} has shape {tuple(values.shape)}, the model needs {tuple(target.shape)}."
            raise ValueError(msg)
        target.copy_(values)


def _weight_paths(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        return _sharded(folder)
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        msg = f"{folder} holds pickled weights only ({', '.join(pickles)}), which can run code and are not read. Ask for safetensors."
        raise FileNotFoundError(msg)
    msg = f"{folder} holds no {WEIGHTS}. If the weights are in a folder of it, name that: `subfolder=`."
    raise FileNotFoundError(msg)


def _sharded(folder: Path) -> list[Path]:
    weight_map = read_json_object(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        msg = f"{INDEX} has no 'weight_map' of tensors to files."
        raise ValueError(msg)
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if not _PLAIN_NAME.fullmatch(name):
            msg = f"{INDEX} names {name!r}: only safetensors files beside it are read."
            raise ValueError(msg)
        if not (folder / name).is_file():
            msg = f"{INDEX} names {name!r}, which is not there: the download is incomplete."
            raise FileNotFoundError(msg)
    paths = [folder / name for name in names]
    there = {tensor for path in paths for tensor in _checked_header(path)}
    if lost := sorted(set(map(str, weight_map)) - there):
        msg = (
            f"{INDEX} promises tensors that no file holds: {', '.join(lost[:5])}{' and more' if len(lost) > 5 else ''}."
        )
        raise ValueError(msg)
    return paths


def _checked_header(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of a file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > size - 8:
        msg = f"{path.name} is no safetensors file, or it is cut off ({size} bytes)."
        raise ValueError(msg)
    if length > _LARGEST_HEADER:
        msg = f"The header of {path.name} claims {length / 2**20:.0f} MB, more than any real one."
        raise ValueError(msg)
    with _opened(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, ValueError, OSError) as error:
        msg = f"{path.name} is no valid safetensors file, or it is cut off: {error}"
        raise ValueError(msg) from error


def _checked(name: str, values: torch.Tensor) -> torch.Tensor:
    if values.dtype not in _DTYPES:
        msg = f"Tensor {name!r} holds {values.dtype}, not floating point numbers of 16 to 64 bits."
        raise ValueError(msg)
    values = values.to(torch.float32)
    if not bool(values.isfinite().all()):
        msg = f"Tensor {name!r} holds NaN or values beyond single precision: the file is broken, or its training diverged."
        raise ValueError(msg)
    return values
