"""How fast the same cells come from an annbatch collection and from h5ad files, and what annbatch's own loader reaches.

    python benchmarks/loader.py --cells 100000

Needs annbatch. Cells are simulated as in streaming.py, and converted once with ``scgenemamba convert``. Each row is one shuffled epoch in a
new process, best of ``--repeats``:

- annbatch: its ``Loader`` over the collection, which yields CSR batches of shuffled cells, read in runs of 64 or of its default of 512;
- collection, h5ad, h5ad gzip: our stream, which also ranks the genes; "one" and "many" are collections of one and of ten data sets.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from streaming import BATCH_SIZE, MAX_TOKENS, peak, simulate

from scgenemamba.metrics._results import describe_run

MIXED = 4_096


def convert(source: Path, out: Path, gigabytes: float) -> None:
    """Write a collection, in a process of its own: the memory of this one would count for those that it starts."""
    if out.exists():
        return
    run = "from scgenemamba.cli import main; raise SystemExit(main())"
    command = ["convert", str(source), "--out", str(out), "--gigabytes", str(gigabytes)]
    subprocess.run([sys.executable, "-c", run, *command], check=True)


def compress(source: Path, out: Path) -> None:
    """The same file with gzip, as atlases are mostly kept."""
    import h5py

    if out.exists():
        return
    partial = out.with_suffix(".part")
    with h5py.File(source) as old, h5py.File(partial, "w") as new:
        new.attrs.update(old.attrs)
        for name in old:
            if name != "X":
                old.copy(name, new)
        new.create_group("X").attrs.update(old["X"].attrs)
        old.copy("X/indptr", new["X"])
        for name in ("data", "indices"):
            values = old["X"][name]
            written = new["X"].create_dataset(name, values.shape, values.dtype, chunks=True, compression="gzip")
            written.attrs.update(values.attrs)
            # one chunk at a time is in memory
            for start in range(0, len(values), 10_000_000):
                written[start : start + 10_000_000] = values[start : start + 10_000_000]
    partial.rename(out)


def read_with_annbatch(path: Path, run: int) -> int:
    """Cells of an epoch of annbatch's loader."""
    from annbatch import DatasetCollection, Loader

    from scgenemamba.train import rust_codecs

    with rust_codecs():
        loader = Loader(
            batch_size=BATCH_SIZE,
            chunk_size=run,
            preload_nchunks=MIXED // run,
            shuffle=True,
            preload_to_gpu=False,
            to=None,
        ).use_collection(DatasetCollection(path, mode="r"))
        return sum(batch["X"].shape[0] for batch in loader)


def stream(path: Path, n_cells: int | None = None) -> int:
    """Cells of an epoch of our stream."""
    from scgenemamba.tokens import RankTokenizer, Scale, Vocabulary
    from scgenemamba.train import Blocks, CellFile, CellOrder, CellStream, Source, datasets_of

    files = [CellFile(part) for part in datasets_of([path])]
    starts = np.cumsum([0, *(file.n_cells for file in files)]).tolist()
    vocabulary = Vocabulary(files[0].var.index)
    token_ids = vocabulary.token_ids(files[0].var.index)
    sources = [Source(file, token_ids, Scale("counts"), start) for file, start in zip(files, starts, strict=False)]
    tokenizer = RankTokenizer(np.r_[np.nan, np.nan, np.ones(len(vocabulary))], max_tokens=MAX_TOKENS)
    sizes = [file.n_cells for file in files] if n_cells is None else [n_cells]
    return sum(
        len(batch["cell"]) for batch in CellStream(sources, tokenizer, CellOrder(Blocks.of_files(sizes), BATCH_SIZE))
    )


def measure(what: str, path: Path, repeats: int) -> None:
    """Print cells per second and the peak of the memory above what imports take."""
    # imports and compiles
    stream(path, BATCH_SIZE)
    before, rates = peak(), []
    for _ in range(repeats):
        started = time.perf_counter()
        n_cells = stream(path) if what == "stream" else read_with_annbatch(path, int(what))
        rates.append(n_cells / (time.perf_counter() - started))
    print(json.dumps({"rate": max(rates), "slowest": min(rates), "memory": peak() - before}))


def size_of(path: Path) -> float:
    """Gigabytes on disk."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e9


def row(name: str, what: str, path: Path, repeats: int) -> None:
    """Measure in a process of its own, and print."""
    command = [sys.executable, __file__, "--measure", what, str(path), "--repeats", str(repeats)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    print(
        f"{name:<34} {found['rate']:>10,.0f} {found['slowest']:>10,.0f} {found['memory']:>12.2f} {size_of(path):>10.2f}",
        flush=True,
    )


def main() -> None:
    """Make what is missing, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "scgenemamba-streaming")
    parser.add_argument("--fresh", action="store_true", help="simulate and convert anew")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        measure(arguments.measure[0], Path(arguments.measure[1]), arguments.repeats)
        return
    folder, n = arguments.folder, arguments.cells
    if arguments.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    h5ad, gzip, one, many = (folder / f"{n}{ending}" for ending in (".h5ad", "-gzip.h5ad", "-one.zarr", "-many.zarr"))
    if not h5ad.exists():
        simulate(h5ad, n)
    gigabytes = 8 * 1_500 * n / 1e9
    compress(h5ad, gzip)
    convert(h5ad, one, 2 * gigabytes)
    convert(h5ad, many, gigabytes / 10)
    print(
        json.dumps(describe_run(command=None, readers={p: version(p) for p in ("annbatch", "zarr", "zarrs", "h5py")}))
    )
    print(f"{n:,} cells, {os.cpu_count()} cores, best and slowest of {arguments.repeats}")
    print(f"{'':<34} {'cells/s':>10} {'slowest':>10} {'memory, GB':>12} {'disk, GB':>10}", flush=True)
    row("annbatch, runs of 64, no tokens", "64", one, arguments.repeats)
    row("annbatch, runs of 512, no tokens", "512", one, arguments.repeats)
    row("stream, collection, one", "stream", one, arguments.repeats)
    row("stream, collection, many", "stream", many, arguments.repeats)
    row("stream, h5ad", "stream", h5ad, arguments.repeats)
    row("stream, h5ad gzip", "stream", gzip, arguments.repeats)


if __name__ == "__main__":
    main()
