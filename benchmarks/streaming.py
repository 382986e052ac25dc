"""How fast cells are streamed from disk, and what memory that takes: reading, ranking and mixing, without a model.

    python benchmarks/streaming.py --cells 100000 1000000

Cells are simulated once, 1,500 of 20,000 genes each, and kept in ``--folder`` (12 kB a cell). For each number of cells a new process
goes through one epoch. Printed are cells per second, those of reading alone, and the peak of the memory above what imports take.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from scgenemamba.metrics._results import describe_run

N_GENES, N_EXPRESSED = 20_000, 1_500
CHUNK, BATCH_SIZE, MAX_TOKENS = 10_000, 128, 2_048


def simulate(path: Path, n_cells: int) -> None:
    """Write cells chunk by chunk."""
    import anndata as ad
    import h5py
    import pandas as pd
    from anndata.io import sparse_dataset, write_elem

    generator = np.random.default_rng(0)
    patterns = np.sort(np.argsort(generator.random((500, N_GENES)), axis=1)[:, :N_EXPRESSED], axis=1).astype(np.int32)

    def chunk(n: int) -> sp.csr_matrix:
        values = generator.poisson(1.5, size=n * N_EXPRESSED).astype(np.float32) + 1
        columns = patterns[generator.integers(len(patterns), size=n)].ravel()
        return sp.csr_matrix((values, columns, np.arange(n + 1) * N_EXPRESSED), shape=(n, N_GENES))

    cells = ad.AnnData(
        obs=pd.DataFrame(index=[f"CELL{i}" for i in range(n_cells)]),
        var=pd.DataFrame(index=[f"GENE{i}" for i in range(N_GENES)]),
    )
    partial = path.with_suffix(".part.h5ad")
    cells.write_h5ad(partial)
    with h5py.File(partial, "r+") as file:
        # without values there is an X that says so
        if "X" in file:
            del file["X"]
        write_elem(file, "X", chunk(min(CHUNK, n_cells)))
        matrix = sparse_dataset(file["X"])
        for start in range(CHUNK, n_cells, CHUNK):
            matrix.append(chunk(min(CHUNK, n_cells - start)))
    partial.rename(path)


def measure(path: Path) -> None:
    """One epoch in this process."""
    from scgenemamba.tokens import RankTokenizer, Scale, Vocabulary
    from scgenemamba.train import Blocks, CellFile, CellOrder, CellStream, Source

    file = CellFile(path)
    vocabulary = Vocabulary(file.var.index)
    source = Source(file, vocabulary.token_ids(file.var.index), Scale("counts"), 0)
    tokenizer = RankTokenizer(np.r_[np.nan, np.nan, np.ones(len(vocabulary))], max_tokens=MAX_TOKENS)

    def epoch(n_cells: int) -> float:
        order = CellOrder(Blocks.of_files([n_cells]), BATCH_SIZE)
        started = time.perf_counter()
        seen = sum(len(batch["cell"]) for batch in CellStream([source], tokenizer, order))
        assert seen == n_cells
        return n_cells / (time.perf_counter() - started)

    before = peak()
    # compiles
    epoch(BATCH_SIZE)
    rate = epoch(file.n_cells)
    memory = peak() - before
    started = time.perf_counter()
    for mixed in CellOrder(Blocks.of_files([file.n_cells]), BATCH_SIZE).mixed(0):
        for first, size in zip(mixed.blocks.first.tolist(), mixed.blocks.size.tolist(), strict=True):
            file.read(first, size)
    alone = file.n_cells / (time.perf_counter() - started)
    print(f"{file.n_cells:>10,} {rate:>15,.0f} {alone:>20,.0f} {memory:>20.2f}", flush=True)


def peak() -> float:
    """Largest memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Simulate what is missing, and measure each number of cells in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "scgenemamba-streaming")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        measure(arguments.measure)
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(json.dumps(describe_run(command=None)))
    print(
        f"{os.cpu_count()} cores\n{'cells':>10} {'streamed cells/s':>15} {'read only cells/s':>20} {'peak memory, GB':>20}",
        flush=True,
    )
    for n_cells in arguments.cells:
        path = arguments.folder / f"{n_cells}.h5ad"
        if not path.exists():
            simulate(path, n_cells)
        subprocess.run([sys.executable, __file__, "--measure", str(path)], check=True)


if __name__ == "__main__":
    main()
