"""Entry point: parses arguments, and imports what a subcommand needs only when it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ._apply_arguments import add_apply, add_source
from ._benchmark_arguments import add_benchmark

# their arguments are those of a configuration, which are read elsewhere
_BY_SETTINGS = {
    "pretrain": "train a model on files that are streamed from disk",
    "reference": "train and publish a model that others annotate with",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``scgenemamba`` command; returns its exit status."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and arguments.command not in _BY_SETTINGS:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        if arguments.command in _BY_SETTINGS:
            module = import_module(f"._{arguments.command}", __package__)
            return int(getattr(module, f"run_{arguments.command}")(rest))
        arguments.run(arguments)
    except (ValueError, KeyError, OSError, ImportError, FloatingPointError) as error:
        # these carry a message for the user; anything else is a defect and keeps its traceback
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        sys.stderr.write(f"scgenemamba: {text}\n")
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


def _benchmark(arguments: argparse.Namespace) -> None:
    from ._benchmark import BenchmarkRequest, run_benchmark

    run_benchmark(
        BenchmarkRequest(
            data=arguments.data,
            out=arguments.out,
            batch_key=arguments.batch,
            labels_key=arguments.labels,
            methods=arguments.methods,
            tasks=arguments.tasks,
            splits=arguments.splits,
            seeds=arguments.seeds,
            preset=arguments.preset,
            max_epochs=arguments.max_epochs,
            layer=arguments.layer,
            gene_key=arguments.gene_key,
            use_raw=arguments.use_raw,
            max_folds=arguments.max_folds,
            quick=arguments.quick,
            figures=not arguments.no_figures,
        )
    )


def _info(arguments: argparse.Namespace) -> None:
    if arguments.checkpoint is None:
        from ._info import run_info

        run_info()
        return
    from ._checkpoint_info import run_checkpoint_info

    run_checkpoint_info(
        arguments.checkpoint,
        subfolder=arguments.subfolder,
        revision=arguments.revision,
        local_files_only=arguments.offline,
    )


def _convert(arguments: argparse.Namespace) -> None:
    from ._convert import ConvertRequest, run_convert

    run_convert(
        ConvertRequest(
            files=arguments.files,
            out=arguments.out,
            layer=arguments.layer,
            gene_key=arguments.gene_key,
            gigabytes=arguments.gigabytes,
            seed=arguments.seed,
            overwrite=arguments.overwrite,
        )
    )


def _parser() -> argparse.ArgumentParser:
    from scgenemamba import __version__

    parser = argparse.ArgumentParser(prog="scgenemamba", description="GeneMamba: single-cell embedding and annotation.")
    parser.add_argument("--version", action="version", version=f"scgenemamba {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_info(commands)
    _add_demo(commands)
    add_benchmark(commands, _benchmark)
    for name, told in _BY_SETTINGS.items():
        commands.add_parser(name, help=told, add_help=False)
    _add_convert(commands)
    add_apply(
        commands,
        "embed",
        "X_genemamba",
        "embed the cells of files with a pretrained model",
        "Write the representation of each cell: with an AnnData file to obsm, or as a table of cells.",
    )
    add_apply(
        commands,
        "annotate",
        "genemamba",
        "annotate the cells of files with a pretrained model",
        "Write the label of each cell, its probability, and where the model is calibrated a novelty score and the 90 % "
        "prediction set, with 'Unknown' for cells of no known label: with an AnnData file to obs, or as a table of cells.",
    )
    return parser


def _add_info(commands: Any) -> None:
    info = commands.add_parser(
        "info",
        help="print versions, devices and the back-end in use, or what is in a checkpoint",
        description="Print what is installed, the devices there are, and for the CPU and the first GPU which back-end "
        "the model takes and why not the others. Worth adding to a bug report. With a checkpoint: its format, sizes, how "
        "directions are joined, whether its layers were ever trained, and what differs from the published GeneMamba.",
    )
    info.add_argument("checkpoint", nargs="?", help="folder, or repository of the Hugging Face hub")
    add_source(info)
    info.set_defaults(run=_info)


def _add_demo(commands: Any) -> None:
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


def _add_convert(commands: Any) -> None:
    convert = commands.add_parser(
        "convert",
        help="write the cells of files, shuffled, into one annbatch collection to train on",
        description="Write a collection of zarr stores in which the cells of all files are mixed. Files may have different "
        "genes, which are matched by name. Features that are no genes are left out, and columns of obs that a file lacks are "
        "empty for its cells. An interrupted run leaves nothing behind. Needs annbatch, and Python 3.12 or later.",
    )
    convert.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".h5ad or .zarr, with counts")
    convert.add_argument("--out", required=True, type=Path, help="collection to write, a .zarr folder")
    convert.add_argument("--layer", metavar="KEY", help="layer with counts (default: X)")
    convert.add_argument("--gene-key", metavar="KEY", help="column of var with gene names (default: var_names)")
    convert.add_argument(
        "--gigabytes",
        type=float,
        default=2.0,
        help="values that are shuffled at a time, and become a store; takes four times as much memory (%(default)s)",
    )
    convert.add_argument("--seed", type=int, default=0, help="of the order (%(default)s)")
    convert.add_argument("--overwrite", action="store_true", help="replace a collection that is there")
    convert.set_defaults(run=_convert)
