"""Cells per second from counts to tokens: the tokenizer alone, a plain NumPy loop over cells, and whole batches.

    python benchmarks/tokenizer.py --json tokenizer.json

The cells are simulated with as many expressed genes as blood cells have. Where ``pbmc3k.h5ad`` is at hand, in
``$SCGENEMAMBA_DATA`` or ``shared/data``, it is measured too. Each number is the best of several runs.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

if TYPE_CHECKING:
    from anndata import AnnData

N_GENES = 16_000
BATCH_SIZES = (128, 512)


def main() -> None:
    """Measure, print, and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=8_192)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("tokenizer.json"))
    arguments = parser.parse_args()
    result = measure(n_cells=arguments.cells, seed=arguments.seed)
    print(json.dumps(result, indent=2))
    arguments.json.write_text(json.dumps(result, indent=2))


def measure(*, n_cells: int = 8_192, seed: int = 0) -> dict[str, Any]:
    """Numbers of simulated cells and, where they are at hand, of pbmc3k."""
    from anndata import AnnData, read_h5ad

    result: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "versions": {p: version(p) for p in ("scgenemamba", "numba", "numpy", "scipy")},
        "simulated": measure_adata(AnnData(simulate(n_cells, seed))),
    }
    file = Path(os.environ.get("SCGENEMAMBA_DATA", Path(__file__).parents[1] / "shared" / "data")) / "pbmc3k.h5ad"
    if file.exists():
        result["pbmc3k"] = measure_adata(read_h5ad(file))
    return result


def simulate(n_cells: int, seed: int = 0) -> sp.csr_matrix:
    """Counts of cells with about 1,000 expressed genes, float32."""
    rng = np.random.default_rng(seed)
    rates = rng.gamma(0.15, 1.0, size=N_GENES)
    rates *= 1_800 / rates.sum()
    pieces = []
    for start in range(0, n_cells, 512):
        depth = rng.lognormal(0, 0.3, size=(min(512, n_cells - start), 1))
        pieces.append(sp.csr_matrix(rng.poisson(rates * depth).astype(np.float32)))
    return sp.vstack(pieces, format="csr")


def measure_adata(adata: AnnData) -> dict[str, float]:
    """Cells per second of one data set of counts."""
    from scgenemamba import GeneMambaModel
    from scgenemamba.model._dataset import CellDataset
    from scgenemamba.tokens import RankTokenizer, Vocabulary, nonzero_medians, to_token_space

    vocabulary = Vocabulary.from_names(adata.var_names)
    counts = to_token_space(adata.X, vocabulary.token_ids(adata.var_names), vocabulary.n_tokens)
    factors = nonzero_medians(counts)
    plain = counts[: min(counts.shape[0], 1_024)]
    seconds = {
        "tokenizer": best(lambda: RankTokenizer(factors)(counts)) / counts.shape[0],
        "tokenizer_one_thread": best(lambda: RankTokenizer(factors, n_threads=1)(counts)) / counts.shape[0],
        "plain_loop": best(lambda: plain_loop(plain, factors)) / plain.shape[0],
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        started = time.perf_counter()
        GeneMambaModel.setup_anndata(adata)
        seconds["setup"] = (time.perf_counter() - started) / adata.n_obs
    manager = GeneMambaModel._get_most_recent_anndata_manager(adata)
    order = np.random.default_rng(0).permutation(adata.n_obs)
    for use, keys in (("train", None), ("embed", [])):
        dataset = CellDataset(manager, keys)
        for size in BATCH_SIZES:
            batches = [order[i : i + size] for i in range(0, adata.n_obs - size + 1, size)]
            took = best(lambda dataset=dataset, batches=batches: [dataset[rows] for rows in batches])
            seconds[f"dataset_{use}_{size}"] = took / (len(batches) * size)
    rates = {f"{name}_cells_per_s": round(1 / value) for name, value in seconds.items()}
    return {
        "cells": adata.n_obs,
        "genes_per_cell": int(np.median(np.diff(counts.indptr))),
        **rates,
        "ratio_to_plain_loop": round(seconds["plain_loop"] / seconds["tokenizer"], 1),
    }


def plain_loop(counts: sp.csr_matrix, factors: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """The tokenizer in NumPy, a cell at a time."""
    cells = []
    for start, end in zip(counts.indptr[:-1], counts.indptr[1:], strict=True):
        ids = counts.indices[start:end]
        cells.append(ids[np.argsort(-counts.data[start:end] / factors[ids], kind="stable")])
    return np.concatenate(cells)


def best(work: Callable[[], object], repeats: int = 5) -> float:
    """Seconds of the fastest of several runs, after one that compiles."""
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    main()
