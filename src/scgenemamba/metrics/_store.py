"""Finished runs on disk, so that an interrupted benchmark goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pandas as pd

from ._methods import Output
from ._methods._base import code_hash

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._methods import Method, Settings
    from ._splits import Split

_FORMAT = 1


@dataclass(frozen=True)
class Run:
    """One method, trained once.

    Parameters
    ----------
    method, seed
        What is trained.
    split
        Which labels are hidden; ``None`` for an embedding without labels.
    """

    method: Method
    split: Split | None
    seed: int

    def __str__(self) -> str:
        where = "no labels" if self.split is None else self.split.name
        return f"{self.method.name}, {where}, seed {self.seed}"

    def key(self, settings: Settings, data: str) -> str:
        """Hash of all that the result depends on."""
        split = None if self.split is None else hashlib.sha256(self.split.query.tobytes()).hexdigest()
        identity = {
            "format": _FORMAT,
            "data": data,
            "split": split,
            "seed": self.seed,
            **self.method.identity(settings),
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:24]


class RunStore:
    """Folder of finished runs: ``<key>.npz`` for what a method gave, ``<key>.<task>-<code>.json`` for its scores.

    Files appear under their name when they are complete.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # scores of other code are not reused, but what was trained is
        here = Path(__file__).parent
        self._scoring = code_hash(
            [here / f"_{name}.py" for name in ("scoring", "integration", "annotation", "confidence")]
        )
        folder.mkdir(parents=True, exist_ok=True)

    def output(self, key: str) -> tuple[Output, float] | None:
        """What a method gave and its seconds, ``None`` if it has not run."""
        path = self.folder / f"{key}.npz"
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
        facts = json.loads(str(arrays["facts"]))
        index = pd.Index(arrays["query"]) if "query" in arrays else None
        tables: dict[str, Any] = {
            name: pd.DataFrame(arrays[name], index=index, columns=arrays[f"{name}_labels"])
            for name in ("probabilities", "sets")
            if name in arrays
        }
        output = Output(
            embedding=arrays.get("embedding"), novelty=arrays.get("novelty"), details=facts["details"], **tables
        )
        return output, facts["seconds"]

    def keep_output(self, key: str, output: Output, seconds: float) -> None:
        """Write what a method gave."""
        facts = json.dumps({"seconds": seconds, "details": output.details}, default=str)
        arrays: dict[str, Any] = {"facts": np.asarray(facts)}
        if output.embedding is not None:
            arrays["embedding"] = np.asarray(output.embedding, dtype=np.float32)
        if output.novelty is not None:
            arrays["novelty"] = np.asarray(output.novelty, dtype=np.float32)
        for name, table in (("probabilities", output.probabilities), ("sets", output.sets)):
            if table is not None:
                arrays |= {name: table.to_numpy(), f"{name}_labels": np.asarray(table.columns, str)}
                arrays["query"] = np.asarray(table.index, str)
        with write_whole(self.folder / f"{key}.npz") as file:
            np.savez_compressed(file, **arrays)

    def scores(self, key: str, task: str) -> Any:
        """Scores of a run for a task, ``None`` if there are none."""
        path = self._score_file(key, task)
        return json.loads(path.read_text()) if path.exists() else None

    def keep_scores(self, key: str, task: str, scores: Any) -> None:
        """Write scores."""
        with write_whole(self._score_file(key, task)) as file:
            file.write(json.dumps(scores, indent=1).encode())

    def _score_file(self, key: str, task: str) -> Path:
        return self.folder / f"{key}.{task}-{self._scoring[:8]}.json"


@contextmanager
def write_whole(path: Path) -> Iterator[BinaryIO]:
    """Binary file that appears under its name when it is complete."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_run(out: str | Path, run: str) -> Output:
    """What a method gave in a finished run of a benchmark.

    Parameters
    ----------
    out
        Folder of the benchmark.
    run
        Name of the run, from the column ``run`` of its results.

    Raises
    ------
    FileNotFoundError
        If there is no such run.
    """
    kept = RunStore(Path(out) / "runs").output(run)
    if kept is None:
        msg = f"No run {run} in {Path(out) / 'runs'}."
        raise FileNotFoundError(msg)
    return kept[0]
