"""The fair comparison: all methods on the same cells, splits and seeds."""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scgenemamba._logging import logger

from ._methods import Settings, Task, resolve_methods
from ._progress import Progress
from ._quiet import quiet
from ._results import BenchmarkResult, collect, describe_run
from ._scoring import Truth
from ._splits import SPLITS, make_splits
from ._store import Run, RunStore, write_whole
from ._validate import TASKS, can_do, cells_and_labels, check_tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anndata import AnnData

    from ._methods import Method, Output
    from ._splits import Split

_QUICK_GENES = 500


@dataclass
class Finished:
    """A run and what became of it."""

    run: Run
    key: str
    tasks: list[str]
    seconds: float = float("nan")
    scores: dict[str, Any] | None = None
    details: dict[str, Any] | None = None
    error: Exception | None = None


def benchmark(
    adata: AnnData,
    *,
    batch_key: str,
    labels_key: str,
    out: str | Path,
    methods: Sequence[str | Method] | None = None,
    tasks: Sequence[str] = TASKS,
    splits: Sequence[str] = SPLITS,
    seeds: int = 3,
    preset: str = "small",
    max_epochs: int | None = None,
    layer: str | None = None,
    gene_key: str | None = None,
    use_raw: bool = False,
    max_folds: int = 5,
    quick: bool = False,
    command: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> BenchmarkResult:
    """Compare GeneMambaModel with what else one would use, on your cells.

    Cells without label, or without counts, are left out; all methods get the others. What a method may see is stated
    in the tables: labels of the query are always hidden, its expression is not where a method is *transductive*.
    Hyper-parameters of classifiers are chosen on a part of the labelled cells. Finished runs are kept in ``out/runs``
    and used again if neither data, settings nor code have changed, so that an interrupted benchmark can be started again.

    Parameters
    ----------
    adata
        Cells with counts, or values that counts can be recovered from; not changed.
    batch_key, labels_key
        Columns of ``adata.obs``.
    out
        Folder for the results.
    methods
        Names, see :func:`method_names`, or a :class:`Method` of your own. ``None`` takes all.
    tasks
        ``"integration"`` without labels, ``"label-aware"`` integration with the labels of the labelled cells, and
        ``"annotation"``.
    splits
        Which labels are hidden in the last two tasks: those of one batch after the other (``"by batch"``), of a random fifth
        of the cells (``"random"``), or of all but a tenth (``"scarce"``).
    seeds
        How many seeds.
    preset, max_epochs
        Size of GeneMambaModel, and its epochs.
    layer, gene_key, use_raw
        Where values and gene names are, as in :meth:`~scgenemamba.GeneMambaModel.setup_anndata`.
    max_folds
        Most batches that are hidden in turn.
    quick
        Few epochs and no choice of hyper-parameters, to see whether all runs. Not a comparison.
    command
        What to name as the command in the results.
    progress
        Takes lines of progress, ``None`` for the logger.

    Returns
    -------
    All scores. They are written to ``out`` as well: ``table.md``, ``integration.csv``, ``annotation.csv``,
    ``per_class.csv``, ``results.json`` and ``embeddings.npz``.

    Raises
    ------
    KeyError, ValueError, ImportError
        If columns, counts or packages are missing, or names are unknown; before any work.
    Exception
        If GeneMambaModel failed, at the end. Failures of others are recorded in the tables.

    Examples
    --------
    >>> result = metrics.benchmark(adata, batch_key="batch", labels_key="cell_type", out="benchmark")
    >>> print(result.table())
    """
    if seeds < 1:
        msg = f"seeds must be at least 1, got {seeds}."
        raise ValueError(msg)
    chosen = resolve_methods(methods)
    cells, labels = cells_and_labels(adata, batch_key, labels_key, layer, gene_key, use_raw)
    check_tasks(tasks, chosen, cells.batch)
    settings = Settings(preset=preset, max_epochs=max_epochs, quick=quick)
    if quick:
        settings = Settings(preset=preset, max_epochs=max_epochs, quick=quick, n_top_genes=_QUICK_GENES)
    found: list[Split] = []
    if set(tasks) & {"label-aware", "annotation"}:
        found = make_splits(labels, cells.batch, splits, range(seeds), max_folds)
    runs = _plan(chosen, tasks, found, seeds)
    work = _Work(Truth(cells, labels), settings, tuple(tasks), RunStore(Path(out) / "runs"))
    finished = work.do(runs, progress or logger.info)
    facts = describe_run(
        command=command,
        cells={
            "cells": cells.n_obs,
            "genes": len(cells.genes),
            "batches": _sizes(cells.batch),
            "labels": _sizes(labels),
        },
        settings={
            **asdict(settings),
            "tasks": list(tasks),
            "splits": list(splits),
            "seeds": seeds,
            "max_folds": max_folds,
        },
        keys={"batch": batch_key, "labels": labels_key, "layer": layer, "gene": gene_key, "use_raw": use_raw},
    )
    result = collect(finished, facts)
    result.write(Path(out))
    work.write_embeddings(finished, Path(out) / "embeddings.npz")
    for one in finished:
        if one.error is not None and one.run.method.ours:
            raise one.error
    return result


def _sizes(values: np.ndarray) -> dict[str, int]:
    return {str(name): int(n) for name, n in zip(*np.unique(values, return_counts=True), strict=True)}


def _plan(methods: list[Method], tasks: Sequence[str], splits: list[Split], seeds: int) -> list[Run]:
    """All runs; seed by seed, so that what a method leaves for another one is needed for one seed at a time."""
    runs = []
    for seed in range(seeds):
        for method in methods:
            if "integration" in tasks and method.label_free and (seed == 0 or not method.deterministic):
                runs.append(Run(method, None, seed))
        for split in splits:
            if split.seed not in (None, seed):
                continue
            for method in methods:
                able = any(can_do(method, task) for task in set(tasks) - {"integration"})
                # the same cells and nothing random: another seed would give the same
                repeated = method.deterministic and split.seed is None and seed > 0
                if able and not repeated:
                    runs.append(Run(method, split, seed))
    return runs


@dataclass
class _Work:
    """Does runs, or finds them done."""

    truth: Truth
    settings: Settings
    tasks: tuple[str, ...]
    store: RunStore

    def __post_init__(self) -> None:
        labels = "\0".join(self.truth.labels)
        self.data = f"{self.truth.cells.fingerprint()} {hashlib.sha256(labels.encode()).hexdigest()}"

    def do(self, runs: list[Run], say: Callable[[str], None]) -> list[Finished]:
        """All runs, in order."""
        kept = [self._kept(run) for run in runs]
        todo = [run for run, found in zip(runs, kept, strict=True) if found is None]
        progress = Progress(todo, self.truth.cells.n_obs, self.settings.quick, say)
        progress.start(len(runs) - len(todo))
        finished = []
        for run, found in zip(runs, kept, strict=True):
            started = time.perf_counter()
            one = found or self._attempt(run)
            if found is None:
                progress.done(run, time.perf_counter() - started, "" if one.error is None else _first_line(one.error))
            finished.append(one)
        return finished

    def write_embeddings(self, finished: list[Finished], path: Path) -> None:
        """Embeddings of the first seed and split by method, with batches and labels, for figures."""
        arrays: dict[str, Any] = {
            "batch": self.truth.cells.batch,
            "label": self.truth.labels,
            "row": self.truth.cells.names.to_numpy().astype(str),
        }
        for one in finished:
            name = one.run.method.name + ("" if one.run.split is None else " (labels)")
            if one.error is None and name not in arrays:
                kept = self.store.output(self._key(one.run))
                if kept is not None and kept[0].embedding is not None:
                    arrays[name] = kept[0].embedding
        with write_whole(path) as file:
            np.savez_compressed(file, **arrays)

    def _key(self, run: Run) -> str:
        return run.key(self.settings, self.data)

    def _tasks_of(self, run: Run) -> list[str]:
        if run.split is None:
            return ["integration"]
        return [task for task in self.tasks if task != "integration" and can_do(run.method, task)]

    def _kept(self, run: Run) -> Finished | None:
        """A run that is complete on disk."""
        key = self._key(run)
        scores = {task: self.store.scores(key, task) for task in self._tasks_of(run)}
        kept = self.store.output(key) if all(value is not None for value in scores.values()) else None
        return None if kept is None else Finished(run, key, list(scores), kept[1], scores, kept[0].details)

    def _attempt(self, run: Run) -> Finished:
        try:
            run.method.check()
            with quiet():
                return self._complete(run)
        except Exception as error:  # noqa: BLE001  (a method that fails must not stop the others; the table says so)
            return Finished(run, self._key(run), self._tasks_of(run), error=error)

    def _complete(self, run: Run) -> Finished:
        key = self._key(run)
        kept = self.store.output(key)
        if kept is None:
            started = time.perf_counter()
            labels = None if run.split is None else run.split.shown(self.truth.labels)
            output = run.method.run(Task(self.truth.cells, self.settings, run.seed, labels))
            seconds = time.perf_counter() - started + output.seconds_before
            self.store.keep_output(key, output, seconds)
            kept = output, seconds
        scores = {}
        for task in self._tasks_of(run):
            scores[task] = self.store.scores(key, task)
            if scores[task] is None:
                scores[task] = self._score(run, task, kept[0])
                self.store.keep_scores(key, task, scores[task])
        return Finished(run, key, list(scores), kept[1], scores, kept[0].details)

    def _score(self, run: Run, task: str, output: Output) -> Any:
        if task == "annotation" and run.split is not None:
            return self.truth.annotation(output, run.split)
        return self.truth.integration(output, run.split)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
