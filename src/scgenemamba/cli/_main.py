"""Entry point: parses arguments, and imports what a subcommand needs only when it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``scgenemamba`` command; returns its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (ValueError, KeyError, FileNotFoundError) as error:
        # these carry a message for the user; anything else is a defect and keeps its traceback
        sys.stderr.write(f"scgenemamba: {error.args[0] if error.args else error}\n")
        return 1
    return 0


def _demo(arguments: argparse.Namespace) -> None:
    from ._demo import run_demo

    run_demo(
        out=arguments.out,
        data=arguments.data,
        labels_key=arguments.labels,
        batch_key=arguments.batch,
        layer=arguments.layer,
        use_raw=arguments.use_raw,
        gene_key=arguments.gene_key,
        preset=arguments.preset,
        max_epochs=arguments.max_epochs,
        n_seeds=arguments.seeds,
    )


def _info(arguments: argparse.Namespace) -> None:
    from ._info import run_info

    run_info()


def _parser() -> argparse.ArgumentParser:
    from scgenemamba import __version__

    parser = argparse.ArgumentParser(prog="scgenemamba", description="GeneMamba: single-cell embedding and annotation.")
    parser.add_argument("--version", action="version", version=f"scgenemamba {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    info = commands.add_parser(
        "info",
        help="print versions, devices, and the back-end in use",
        description="Print what is installed, the devices there are, and for the CPU and the first GPU which back-end "
        "the model takes and why not the others. Worth adding to a bug report.",
    )
    info.set_defaults(run=_info)
    demo = commands.add_parser(
        "demo",
        help="train on a reference, annotate a query, and draw the result",
        description="Split a data set into reference and query, train on the reference, embed and cluster all cells, "
        "annotate the query, and compare with logistic regression and PCA. Without --data it runs on the 700 blood "
        "cells that scanpy ships.",
    )
    demo.add_argument("--out", type=Path, default=Path("scgenemamba-demo"), help="folder for the results (%(default)s)")
    demo.add_argument("--data", type=Path, help="your own .h5ad file")
    demo.add_argument("--labels", metavar="KEY", help="column of obs with cell types (needed with --data)")
    demo.add_argument("--batch", metavar="KEY", help="column of obs with batches")
    demo.add_argument("--layer", metavar="KEY", help="layer with counts (default: X)")
    demo.add_argument("--use-raw", action="store_true", help="read .raw instead of X")
    demo.add_argument("--gene-key", metavar="KEY", help="column of var with gene names (default: var_names)")
    demo.add_argument("--preset", default="tiny", help="size of the model (%(default)s)")
    demo.add_argument("--max-epochs", type=int, help="epochs of training (default: by number of cells)")
    demo.add_argument(
        "--seeds", type=int, default=1, help="repeat with several splits and report the mean (%(default)s)"
    )
    demo.set_defaults(run=_demo)
    return parser
