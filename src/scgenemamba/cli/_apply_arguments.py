"""Arguments of ``scgenemamba embed`` and ``annotate``, and what they start."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scgenemamba import GeneMambaModel

_SHIPPED = "pbmc-small"
_SHIPPED_TOLD = f" (default: {_SHIPPED}, of human blood, which comes with the package)"
_BESIDE_TOLD = " (default: for one file, beside it, with _annotated in its name)"


def add_apply(commands: Any, name: str, key: str, summary: str, description: str) -> None:
    """Add ``embed`` or ``annotate``.

    Parameters
    ----------
    commands
        Where commands are added.
    name, key
        Name of the command, and of its result.
    summary, description
        What it does, in a line and in full.
    """
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{description} Results that are there are skipped, so an interrupted run can be started again. Genes "
        "are matched by name: Ensembl ids with or without version, current, previous and alias symbols.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".h5ad or .zarr")
    annotates = name == "annotate"
    model, out = (_SHIPPED_TOLD, _BESIDE_TOLD) if annotates else ("", "")
    parser.add_argument(
        "--model",
        required=not annotates,
        default=_SHIPPED if annotates else None,
        help=f"folder, or repository of the Hugging Face hub{model}",
    )
    parser.add_argument(
        "--out",
        required=not annotates,
        type=Path,
        help=f"result: .h5ad, .zarr, .csv, .tsv or .parquet for one file; a folder for several{out}",
    )
    parser.add_argument("--key", default=key, help="name of the result (%(default)s)")
    parser.add_argument("--batch-size", type=int, help="cells at a time")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (default: a GPU where there is one)")
    parser.add_argument("--overwrite", action="store_true", help="replace results that are there")
    _add_reading(parser)
    add_source(parser)
    parser.set_defaults(run=_apply)


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say where in a repository a checkpoint is."""
    parser.add_argument("--subfolder", help="folder within the checkpoint's folder or repository")
    parser.add_argument("--revision", help="branch, tag or commit of the repository")
    parser.add_argument("--offline", action="store_true", help="take the repository from the cache only")


def _add_reading(parser: argparse.ArgumentParser) -> None:
    """Add how cells are read, and how published weights are."""
    parser.add_argument("--layer", metavar="KEY", help="layer with counts (default: X)")
    parser.add_argument("--gene-key", metavar="KEY", help="column of var with gene names (default: var_names)")
    parser.add_argument(
        "--gene-medians", metavar="FILE", help="table of the genes' medians (default: from the first file)"
    )
    parser.add_argument(
        "--pooling",
        nargs="+",
        default=["mean"],
        choices=["mean", "max", "cls"],
        help="what summarises a cell in published weights (mean); their classifiers need cls",
    )
    parser.add_argument(
        "--fusion", choices=["mean", "sum", "gate", "concat"], help="of published weights (default: found)"
    )
    parser.add_argument("--max-tokens", type=int, help="genes read per cell (default: as in the checkpoint)")
    parser.add_argument("--rank-mode", default="median", choices=["median", "raw", "official_downstream"])
    parser.add_argument(
        "--min-counts-share",
        type=float,
        default=0.5,
        help="share of the counts that must belong to known genes (%(default)s)",
    )


def _apply(arguments: argparse.Namespace) -> None:
    from ._apply import Job, run_apply

    def load() -> GeneMambaModel:
        from scgenemamba import GeneMambaModel

        model: Any = GeneMambaModel.from_pretrained(
            arguments.model,
            subfolder=arguments.subfolder,
            revision=arguments.revision,
            local_files_only=arguments.offline,
            pooling=tuple(arguments.pooling),
            fusion=arguments.fusion,
            max_tokens=arguments.max_tokens,
            rank_mode=arguments.rank_mode,
            gene_medians=arguments.gene_medians,
            layer=arguments.layer,
            gene_key=arguments.gene_key,
            min_counts_share=arguments.min_counts_share,
            # a device that is named is gone to below
            accelerator="auto" if arguments.device == "auto" else "cpu",
        )
        if arguments.device != "auto":
            model.to_device(arguments.device)
        return model

    files, out = arguments.files, arguments.out
    if out is None:
        if len(files) > 1:
            msg = "Several files need a folder for their results, --out."
            raise ValueError(msg)
        out = files[0].with_name(f"{files[0].stem}_annotated{files[0].suffix}")
    job = Job(files, out, arguments.command, arguments.key, arguments.overwrite, arguments.batch_size)
    run_apply(job, load)
