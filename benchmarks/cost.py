"""Time and peak memory of training and embedding, per preset.

    python benchmarks/cost.py --presets small medium

Each preset runs in a process of its own, on simulated counts with as many expressed genes per cell as blood cells have, so
that the numbers can be had without any data. Results are written as JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

N_GENES = 16_000


def main() -> None:
    """Run every preset in its own process and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["small", "medium"])
    parser.add_argument("--cells", type=int, default=1_024)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--json", type=Path, default=Path("cost.json"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.cells, arguments.batch_size)))
        return
    rows = {}
    for preset in arguments.presets:
        command = [sys.executable, __file__, "--one", preset, "--cells", str(arguments.cells)]
        command += ["--batch-size", str(arguments.batch_size)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows[preset] = json.loads(output.strip().splitlines()[-1])
        print(preset, rows[preset], flush=True)
    result = {
        "command": " ".join(sys.argv),
        "date": time.strftime("%Y-%m-%d"),
        "cells": arguments.cells,
        "presets": rows,
        "versions": {p: version(p) for p in ("scgenemamba", "scvi-tools", "torch")},
    }
    arguments.json.write_text(json.dumps(result, indent=2))


def measure(preset: str, n_cells: int, batch_size: int) -> dict[str, float | str]:
    """One epoch of training and one embedding."""
    import scipy.sparse as sp
    import torch
    from anndata import AnnData

    from scgenemamba import GeneMambaModel

    rng = np.random.default_rng(0)
    rates = rng.gamma(0.15, 1.0, size=N_GENES)
    rates *= 2_500 / rates.sum()
    counts = rng.poisson(rates * rng.lognormal(0, 0.3, size=(n_cells, 1))).astype(np.float32)
    adata = AnnData(sp.csr_matrix(counts))
    adata.obs["batch"] = rng.choice(["a", "b"], size=n_cells)
    GeneMambaModel.setup_anndata(adata, batch_key="batch")
    model = GeneMambaModel(adata, preset=preset)
    before = peak_bytes()
    started = time.perf_counter()
    model.train(max_epochs=1, train_size=1.0, batch_size=batch_size, enable_progress_bar=False)
    trained = time.perf_counter()
    training_bytes = peak_bytes()
    model.get_latent_representation(batch_size=batch_size)
    embedded = time.perf_counter()
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads",
        "parameters": sum(p.numel() for p in model.module.parameters()),
        "genes_per_cell": int(np.median((counts > 0).sum(1))),
        "train_cells_per_s": round(n_cells / (trained - started), 1),
        "embed_cells_per_s": round(n_cells / (embedded - trained), 1),
        "peak_memory_before_gb": round(before / 2**30, 2),
        "peak_memory_training_gb": round(training_bytes / 2**30, 2),
        "peak_gpu_memory_gb": round(torch.cuda.max_memory_allocated() / 2**30, 2) if cuda else 0.0,
    }


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
