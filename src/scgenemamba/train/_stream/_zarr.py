"""Zarr stores: those of one AnnData, and annbatch's collections of many."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_COLLECTION = "annbatch-preshuffled"


def datasets_of(paths: Sequence[str | Path]) -> list[Path]:
    """The same paths, with the data sets of an annbatch collection, each a zarr folder of an AnnData, in its place.

    What is neither is left to :class:`CellFile` to refuse.
    """
    return [dataset for path in paths for dataset in _datasets_in(Path(path))]


def open_folder(path: Path) -> Any:
    """Zarr group of an AnnData.

    Raises
    ------
    ValueError
        If the folder is none.
    """
    group = _group(path)
    if group is None or "var" not in group or "obs" not in group:
        msg = (
            f"{path} holds no AnnData: a folder is a zarr store, either of one AnnData, as `write_zarr` writes it, or a finished "
            "annbatch collection, as `scgenemamba convert` does."
        )
        raise ValueError(msg)
    return group


@contextmanager
def rust_codecs() -> Iterator[None]:
    """Within, zarr arrays are opened for the faster decoding and encoding of the package zarrs, where that is installed."""
    if find_spec("zarrs") is None:
        yield
        return
    import zarr

    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        yield


def _datasets_in(path: Path) -> list[Path]:
    group = _group(path) if path.is_dir() else None
    if group is None or group.attrs.get("encoding-type") != _COLLECTION:
        return [path]
    numbers = sorted(int(match[1]) for name in group if (match := re.fullmatch(r"dataset_(\d+)", name)))
    return [path / f"dataset_{number}" for number in numbers] or [path]


def _group(path: Path) -> Any:
    import zarr

    try:
        return zarr.open_group(path, mode="r")
    except (OSError, ValueError, TypeError):
        # no zarr store, or one of an array
        return None
