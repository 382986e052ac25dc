"""All scores of a benchmark, and the files that they are written to."""

from __future__ import annotations

import json
import platform
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import pandas as pd

from ._report import markdown
from ._store import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ._benchmark import Finished

_PACKAGES = (
    "scgenemamba",
    "scvi-tools",
    "scib-metrics",
    "harmonypy",
    "celltypist",
    "xgboost",
    "xgboost-cpu",
    "scikit-learn",
    "scanpy",
    "anndata",
    "torch",
    "numpy",
)


@dataclass(frozen=True)
class BenchmarkResult:
    """Scores of all runs.

    Parameters
    ----------
    integration
        One row a run and set of cells: ``method``, ``labels`` (``"none"``, or ``"shown"`` for methods that saw those of the
        labelled cells), ``split``, ``fold``, ``cells`` (``"all"`` or ``"held-out"``), ``seed`` and the scores of
        :func:`integration_scores`. ``run`` is the name of the run's file in ``runs``. Failed runs have a ``message``
        instead of scores.
    annotation
        One row a run, with the scores of :func:`annotation_scores`, and ``coverage``, ``mean_set_size`` and
        ``novelty_auroc`` where they exist.
    per_class
        One row a run and type.
    facts
        Command, versions, device, date, data and settings.
    """

    integration: pd.DataFrame
    annotation: pd.DataFrame
    per_class: pd.DataFrame
    facts: dict[str, Any]

    def table(self) -> str:
        """All results as Markdown, with a line for each table that says where we win and lose."""
        return markdown(self)

    def write(self, out: Path) -> None:
        """Write ``table.md``, three ``.csv`` and ``results.json``."""
        out.mkdir(parents=True, exist_ok=True)
        frames = {"integration": self.integration, "annotation": self.annotation, "per_class": self.per_class}
        rows = {name: json.loads(frame.to_json(orient="records", double_precision=6)) for name, frame in frames.items()}
        texts = {f"{name}.csv": frame.to_csv(index=False) for name, frame in frames.items()}
        texts |= {"table.md": self.table(), "results.json": json.dumps({**self.facts, **rows}, indent=1, default=str)}
        for name, text in texts.items():
            with write_whole(out / name) as file:
                file.write(text.encode())


def collect(finished: Sequence[Finished], facts: dict[str, Any]) -> BenchmarkResult:
    """Rows of finished and failed runs."""
    integration: list[dict[str, Any]] = []
    annotation: list[dict[str, Any]] = []
    per_class: list[dict[str, Any]] = []
    for one in finished:
        row = _about(one)
        if one.error is not None:
            failed = {**row, "message": f"{type(one.error).__name__}: {one.error}"}
            annotation += [failed for task in one.tasks if task == "annotation"]
            integration += [{**failed, "cells": "all"} for task in one.tasks if task != "annotation"]
            continue
        for task, scores in (one.scores or {}).items():
            if task == "annotation":
                annotation.append({**row, **scores["scores"]})
                per_class += [{**row, **label} for label in scores["per_class"]]
            else:
                integration += [{**row, **scored} for scored in scores]
    return BenchmarkResult(pd.DataFrame(integration), pd.DataFrame(annotation), pd.DataFrame(per_class), facts)


def _about(one: Finished) -> dict[str, Any]:
    run, split = one.run, one.run.split
    return {
        "method": run.method.name,
        "labels": "none" if split is None else "shown",
        "split": "" if split is None else split.kind,
        "fold": "" if split is None else split.fold,
        "seed": run.seed,
        "transductive": run.method.transductive or split is None,
        "control": run.method.control,
        "ours": run.method.ours,
        "seconds": round(one.seconds, 2),
        "run": one.key,
        "details": json.dumps(one.details or {}),
        "message": "",
    }


def describe_run(*, command: str | None, **parts: Any) -> dict[str, Any]:
    """Command, versions, device and date, for a record of results."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "command": command or " ".join(sys.argv),
        "date": time.strftime("%Y-%m-%d"),
        "device": gpu or f"CPU {platform.machine()}, {torch.get_num_threads()} threads",
        "versions": {
            "python": platform.python_version(),
            **{p: v for p in _PACKAGES if (v := _version(p)) is not None},
        },
        **parts,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
