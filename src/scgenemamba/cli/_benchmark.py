"""The comparison from file to table and figures."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from scgenemamba.metrics import benchmark

from ._benchmark_figures import draw_benchmark


@dataclass(frozen=True)
class BenchmarkRequest:
    """What was asked for on the command line, as in :func:`scgenemamba.metrics.benchmark`."""

    data: Path
    out: Path
    batch_key: str
    labels_key: str
    methods: list[str] | None
    tasks: list[str]
    splits: list[str]
    seeds: int
    preset: str
    max_epochs: int | None
    layer: str | None
    gene_key: str | None
    use_raw: bool
    max_folds: int
    quick: bool
    figures: bool


def run_benchmark(request: BenchmarkRequest) -> None:
    """Compare, and write tables and figures into a folder.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError, KeyError, ImportError
        As :func:`scgenemamba.metrics.benchmark` does.
    """
    import anndata as ad

    if not request.data.exists():
        msg = f"No file {request.data}."
        raise FileNotFoundError(msg)
    result = benchmark(
        ad.read_h5ad(request.data),
        batch_key=request.batch_key,
        labels_key=request.labels_key,
        out=request.out,
        methods=request.methods,
        tasks=request.tasks,
        splits=request.splits,
        seeds=request.seeds,
        preset=request.preset,
        max_epochs=request.max_epochs,
        layer=request.layer,
        gene_key=request.gene_key,
        use_raw=request.use_raw,
        max_folds=request.max_folds,
        quick=request.quick,
        command=f"scgenemamba {shlex.join(sys.argv[1:])}",
        progress=_say,
    )
    if request.figures:
        draw_benchmark(result, request.out)
    sys.stdout.write(result.table())
    _say(
        f"\nWrote table.md, results.json, embeddings.npz, .csv files{' and figures' if request.figures else ''} to {request.out}."
    )


def _say(line: str) -> None:
    # flushed, so that the lines can be followed in a log
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
