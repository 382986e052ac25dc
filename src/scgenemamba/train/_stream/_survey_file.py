"""A survey on disk, so that files are not looked through again when training goes on, or in each process."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_only

from scgenemamba.tokens import Scale, Vocabulary

from ._cells import Source
from ._files import CellFile
from ._survey import Survey, survey


def kept_survey(path: Path, paths: Sequence[str | Path], **options: Any) -> Survey:
    """A :func:`survey` that is read from disk if it was made of the same files, as they are now.

    The first of several processes makes it, the others wait for it.

    Parameters
    ----------
    path
        Where it is kept, an ``.npz`` file.
    paths, **options
        Of :func:`survey`.
    """
    of = _fingerprint(paths, options)
    while (found := load_survey(path, of)) is None:
        if getattr(rank_zero_only, "rank", 0):
            time.sleep(1.0)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        save_survey(survey(paths, **options), path, of)
    return found


def save_survey(found: Survey, path: Path, of: str) -> None:
    """Write a survey, whole or not at all.

    Parameters
    ----------
    found
        The survey.
    path
        An ``.npz`` file.
    of
        What it depends on, in one string.
    """
    files = [
        {
            "path": str(source.file.path),
            "layer": source.file.layer,
            "scale": asdict(source.scale),
            "first_cell": source.first_cell,
        }
        for source in found.sources
    ]
    told = {"empty": found.empty, "repeated": found.repeated, "skipped": found.skipped}
    arrays: dict[str, Any] = {f"token_ids_{i}": source.token_ids for i, source in enumerate(found.sources)}
    partial = path.with_suffix(f".{os.getpid()}.npz")
    genes = found.vocabulary.genes.astype(str)
    np.savez(
        partial, of=of, files=json.dumps(files), told=json.dumps(told), genes=genes, medians=found.medians, **arrays
    )
    partial.replace(path)


def load_survey(path: Path, of: str) -> Survey | None:
    """The survey of these files as they are now, ``None`` if the file does not hold it."""
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as saved:
        if str(saved["of"]) != of:
            return None
        sources = []
        for i, about in enumerate(json.loads(str(saved["files"]))):
            scale, first_cell = Scale(**about.pop("scale")), about.pop("first_cell")
            sources.append(Source(CellFile(about["path"], about["layer"]), saved[f"token_ids_{i}"], scale, first_cell))
        genes = saved["genes"].astype(object)
        return Survey(sources, Vocabulary(genes), saved["medians"], **json.loads(str(saved["told"])))


def _fingerprint(paths: Sequence[str | Path], options: dict[str, Any]) -> str:
    """What a survey depends on: files with their sizes and times, and how they are read."""
    asked = {key: value for key, value in options.items() if key != "progress"}
    for key, value in asked.items():
        if isinstance(value, Vocabulary):
            asked[key] = sha256("\n".join(value.genes).encode()).hexdigest()
        elif isinstance(value, np.ndarray):
            asked[key] = sha256(value.tobytes()).hexdigest()
    return json.dumps([[[str(path), *_size_and_time(Path(path))] for path in paths], asked], sort_keys=True)


def _size_and_time(path: Path) -> tuple[int, int]:
    if not path.exists():
        # the survey says so
        return -1, -1
    state = path.stat()
    return state.st_size, state.st_mtime_ns
