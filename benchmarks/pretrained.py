"""Loading a checkpoint of the published size: seconds and memory, and seconds to embed cells.

    python benchmarks/pretrained.py --cells 100

Makes a checkpoint in the published layout with random weights and 25,424 genes, those of the data among them, loads it in a process of
its own, and embeds the first cells. Results are written as JSON.
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
from importlib.metadata import version
from pathlib import Path

DATA = Path(os.environ.get("SCGENEMAMBA_DATA", Path(__file__).parents[2] / "shared" / "data"))
N_GENES = 25_424


def main() -> None:
    """Make the checkpoint in a child process, so that its memory does not count, then load it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--data", type=Path, default=DATA / "pbmc_tiny.h5ad")
    parser.add_argument("--gene-key", default="ensembl_id")
    parser.add_argument("--json", type=Path, default=Path("pretrained.json"))
    parser.add_argument("--make", type=Path, help="only make the checkpoint in this folder")
    arguments = parser.parse_args()
    if not arguments.data.exists():
        sys.exit(f"skipped: {arguments.data.name} not found, see --data")
    if arguments.make:
        make(arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--make", folder], check=True)
        result = {"command": " ".join(sys.argv), "date": time.strftime("%Y-%m-%d"), **measure(Path(folder), arguments)}
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def make(arguments: argparse.Namespace) -> None:
    """Write random weights in the published layout."""
    import anndata as ad

    from scgenemamba.model._checkpoint import write_published
    from scgenemamba.nn import BiMambaEncoder, GeneMambaConfig, TokenHead
    from scgenemamba.tokens import Vocabulary

    own = dict.fromkeys(ad.read_h5ad(arguments.data, backed="r").var[arguments.gene_key].astype(str))
    genes = sorted([*own, *(f"ENSG9{i:010d}" for i in range(N_GENES - len(own)))])
    config = GeneMambaConfig(
        n_tokens=N_GENES + Vocabulary.FIRST_GENE,
        d_model=arguments.width,
        n_layers=arguments.layers,
        pre_norm=False,
        tied_head=False,
        max_tokens=2_048,
    )
    encoder, head = BiMambaEncoder(config), TokenHead(config.d_model, config.n_tokens)
    write_published(
        arguments.make, config, Vocabulary(genes), encoder.state_dict(), head.state_dict(), classifier={}, classes=[]
    )


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Load and embed."""
    import anndata as ad
    import torch

    from scgenemamba import GeneMambaModel

    size = (folder / "model.safetensors").stat().st_size
    adata = ad.read_h5ad(arguments.data)[: arguments.cells].copy()
    before, started = peak_bytes(), time.perf_counter()
    model = GeneMambaModel.from_pretrained(folder, gene_key=arguments.gene_key)
    loading, peak = time.perf_counter() - started, peak_bytes()
    started = time.perf_counter()
    model.get_latent_representation(adata)
    return {
        "device": f"CPU, {torch.get_num_threads()} threads",
        "layers": arguments.layers,
        "width": arguments.width,
        "weights_mb": round(size / 2**20, 1),
        "load_s": round(loading, 2),
        "peak_memory_over_weights": round((peak - before) / size, 2),
        "cells": adata.n_obs,
        "embed_s": round(time.perf_counter() - started, 1),
        "versions": {package: version(package) for package in ("scgenemamba", "scvi-tools", "torch", "safetensors")},
    }


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
