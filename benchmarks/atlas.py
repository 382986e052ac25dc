"""Many cells on one machine: seconds, memory and the announced times against the real ones.

    python benchmarks/atlas.py --cells 500000

Simulates blood-like counts (about 850 expressed genes of 16,000, ten cell types, four batches), registers them, trains the
default model for its default number of epochs and embeds all cells. The counts are written straight into a CSR matrix of its
final size, so that peak memory is that of the model and not of the simulation. Results are written as JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numba
import numpy as np

N_GENES, N_TYPES, N_BATCHES = 16_000, 10, 4
COUNTS_PER_CELL = 1_700


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=500_000)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--max-epochs", type=int, help="default: the model's own")
    parser.add_argument("--json", type=Path, default=Path("atlas.json"))
    arguments = parser.parse_args()
    result = run(arguments.cells, arguments.preset, arguments.max_epochs)
    result = {"command": " ".join(sys.argv), "date": time.strftime("%Y-%m-%d"), **result}
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def run(n_cells: int, preset: str, max_epochs: int | None) -> dict[str, object]:
    import torch

    from scgenemamba import GeneMambaModel

    cuda = torch.cuda.is_available()
    if cuda:
        # its libraries alone take gigabytes
        torch.ones(8, 8, device="cuda") @ torch.ones(8, 8, device="cuda")
    baseline = peak_bytes()
    announced = Announced()
    logging.getLogger("scvi.scgenemamba").addHandler(announced)

    seconds, peaks = {}, {}

    def measure(name: str, work):
        started = time.perf_counter()
        value = work()
        seconds[name] = time.perf_counter() - started
        peaks[name] = peak_bytes()
        print(f"{name}: {seconds[name]:.1f} s, peak {peaks[name] / 2**30:.2f} GB", flush=True)
        return value

    adata = measure("simulate", lambda: simulate(n_cells))
    csr = adata.X.data.nbytes + adata.X.indices.nbytes + adata.X.indptr.nbytes
    measure("setup", lambda: GeneMambaModel.setup_anndata(adata, batch_key="batch"))
    model = GeneMambaModel(adata, preset=preset)
    measure("train", lambda: model.train(max_epochs=max_epochs, enable_progress_bar=False))
    latent = measure("embed", model.get_latent_representation)
    assert latent.shape[0] == n_cells and np.isfinite(latent).all()

    peak = peaks["embed"]
    epochs = model.trainer.current_epoch
    return {
        "device": torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads",
        "cells": n_cells,
        "preset": preset,
        "epochs": epochs,
        "genes_per_cell": round(adata.X.nnz / n_cells, 1),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "minutes_setup_train_embed": round((seconds["setup"] + seconds["train"] + seconds["embed"]) / 60, 2),
        "train_cells_per_s": round(epochs * len(model.train_indices) / seconds["train"], 1),
        "embed_cells_per_s": round(n_cells / seconds["embed"], 1),
        "csr_gb": round(csr / 2**30, 3),
        "rss_baseline_gb": round(baseline / 2**30, 3),
        "peak_rss_gb": {name: round(value / 2**30, 3) for name, value in peaks.items()},
        "peak_rss_over_csr": round(peak / csr, 2),
        "peak_rss_without_baseline_over_csr": round((peak - baseline) / csr, 2),
        "peak_gpu_memory_gb": round(torch.cuda.max_memory_allocated() / 2**30, 2) if cuda else 0.0,
        "announced": announced.compare({"Training": seconds["train"], "Embedding": seconds["embed"]}),
        "versions": {p: version(p) for p in ("scgenemamba", "scvi-tools", "torch")},
    }


class Announced(logging.Handler):
    """Keeps the durations that the model announces."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, "seconds"):
            self.seconds[record.getMessage().split()[0]] = record.seconds

    def compare(self, real: dict[str, float]) -> dict[str, dict[str, float]]:
        """Announced against real seconds; work that was too short to be announced is left out."""
        return {
            what: {"announced_s": round(said, 1), "real_s": round(real[what], 1), "ratio": round(said / real[what], 3)}
            for what, said in self.seconds.items()
        }


def simulate(n_cells: int):
    """AnnData of ``n_cells`` cells in CSR: float32 values, int32 indices, nothing else of that size."""
    import pandas as pd
    import scipy.sparse as sp
    from anndata import AnnData

    rng = np.random.default_rng(0)
    types, batches = rng.integers(N_TYPES, size=n_cells), rng.integers(N_BATCHES, size=n_cells)
    cumulative = cumulative_rates(rng)
    depths = (COUNTS_PER_CELL * rng.lognormal(0, 0.3, size=n_cells)).astype(np.int32)
    program = types * N_BATCHES + batches
    # each cell is drawn twice from its own seed: to know its size, and to fill it in
    sizes = np.empty(n_cells, dtype=np.int64)
    count_genes(cumulative, program, depths, sizes)
    indptr = np.zeros(n_cells + 1, dtype=np.int64)
    np.cumsum(sizes, out=indptr[1:])
    if indptr[-1] > np.iinfo(np.int32).max:
        msg = f"{n_cells} cells have more values than int32 can count; take at most 2,000,000."
        raise ValueError(msg)
    indices, values = np.empty(indptr[-1], dtype=np.int32), np.empty(indptr[-1], dtype=np.float32)
    fill_genes(cumulative, program, depths, indptr, indices, values)
    counts = sp.csr_matrix((values, indices, indptr.astype(np.int32)), shape=(n_cells, N_GENES), copy=False)
    counts.has_sorted_indices = counts.has_canonical_format = True
    obs = pd.DataFrame({"batch": pd.Categorical.from_codes(batches, [f"batch{b}" for b in range(N_BATCHES)])})
    obs["cell_type"] = pd.Categorical.from_codes(types, [f"type{t}" for t in range(N_TYPES)])
    obs.index = obs.index.astype(str)
    return AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"GENE{i}" for i in range(N_GENES)]))


def cumulative_rates(rng: np.random.Generator) -> np.ndarray:
    """Cumulative share of each gene, for each type in each batch, float64 ``(types * batches, genes)``."""
    rates = np.tile(rng.lognormal(0, 2.1, size=N_GENES), (N_TYPES, 1))
    for row in rates:
        row[rng.choice(N_GENES, 300, replace=False)] *= rng.lognormal(2, 0.5, size=300)
    capture = rng.lognormal(0, 0.3, size=(N_BATCHES, N_GENES))
    programs = (rates[:, None] * capture).reshape(-1, N_GENES)
    return (programs / programs.sum(1, keepdims=True)).cumsum(1)


@numba.njit
def draw_cell(cell: int, cumulative: np.ndarray, depth: int, drawn: np.ndarray) -> int:
    """Sorted genes of a cell in ``drawn``, one for each count, and how many are different."""
    np.random.seed(cell)
    for i in range(depth):
        drawn[i] = min(np.searchsorted(cumulative, np.random.random()), len(cumulative) - 1)
    drawn[:depth].sort()
    different = 0
    for i in range(depth):
        different += i == 0 or drawn[i] != drawn[i - 1]
    return different


@numba.njit(parallel=True)
def count_genes(cumulative: np.ndarray, program: np.ndarray, depths: np.ndarray, sizes: np.ndarray) -> None:
    for cell in numba.prange(len(program)):
        drawn = np.empty(depths[cell], dtype=np.int32)
        sizes[cell] = draw_cell(cell, cumulative[program[cell]], depths[cell], drawn)


@numba.njit(parallel=True)
def fill_genes(
    cumulative: np.ndarray,
    program: np.ndarray,
    depths: np.ndarray,
    indptr: np.ndarray,
    indices: np.ndarray,
    values: np.ndarray,
) -> None:
    for cell in numba.prange(len(program)):
        drawn = np.empty(depths[cell], dtype=np.int32)
        draw_cell(cell, cumulative[program[cell]], depths[cell], drawn)
        place = indptr[cell] - 1
        for i in range(depths[cell]):
            if i == 0 or drawn[i] != drawn[i - 1]:
                place += 1
                indices[place] = drawn[i]
                values[place] = 0
            values[place] += 1


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
