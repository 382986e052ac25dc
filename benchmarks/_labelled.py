"""What benchmarks on labelled cells have in common: their arguments, their cells, and what they say of the machine."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import anndata as ad

from scgenemamba.metrics._results import describe_run

DATA = Path(os.environ.get("SCGENEMAMBA_DATA", Path(__file__).parents[2] / "shared" / "data"))


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Arguments for the cells, the model's size and the number of seeds."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA / "pbmc_two_studies.h5ad")
    parser.add_argument("--batch", default="batch")
    parser.add_argument("--labels", default="cell_type")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--seeds", type=int, default=3)
    return parser


def read(arguments: argparse.Namespace) -> ad.AnnData:
    """The cells; prints command, device and versions."""
    if not arguments.data.exists():
        sys.exit(f"{arguments.data} not found; set SCGENEMAMBA_DATA or --data")
    say_where()
    return ad.read_h5ad(arguments.data)


def say_where() -> None:
    """Print command, device and versions."""
    print(json.dumps(describe_run(command=None)), flush=True)
