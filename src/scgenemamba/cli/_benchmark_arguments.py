"""Arguments of ``scgenemamba benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

# as in metrics, which is not imported before the command runs
_TASKS = ("integration", "label-aware", "annotation")
_SPLITS = ("by batch", "random", "scarce")


def add_benchmark(commands: Any, run: Callable[[argparse.Namespace], None]) -> None:
    """Add the command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "benchmark",
        help="compare integration and annotation with other methods, on your own cells",
        description="Compare GeneMambaModel with PCA, variable genes, Harmony, ComBat, scVI, scANVI (with and without "
        "scArches), logistic regression, CellTypist's trainer, nearest neighbours, SVM, MLP and XGBoost, and with itself with "
        "random weights and without its layers. All get the same cells; labels of the query are hidden. Finished runs are "
        "kept, so an interrupted benchmark can be started again.",
    )
    parser.add_argument("data", type=Path, metavar="FILE", help=".h5ad with counts")
    parser.add_argument("--batch", required=True, metavar="KEY", help="column of obs with batches")
    parser.add_argument("--labels", required=True, metavar="KEY", help="column of obs with cell types")
    parser.add_argument(
        "--out", type=Path, default=Path("scgenemamba-benchmark"), help="folder for the results (%(default)s)"
    )
    _add_choice(parser)
    parser.add_argument("--preset", default="small", help="size of GeneMambaModel (%(default)s)")
    parser.add_argument("--max-epochs", type=int, help="its epochs (default: by number of cells)")
    parser.add_argument("--layer", metavar="KEY", help="layer with counts (default: X)")
    parser.add_argument("--gene-key", metavar="KEY", help="column of var with gene names (default: var_names)")
    parser.add_argument("--use-raw", action="store_true", help="read .raw instead of X")
    parser.add_argument(
        "--quick", action="store_true", help="few epochs everywhere, to see whether all runs; not a comparison"
    )
    parser.add_argument("--no-figures", action="store_true", help="write tables only")
    parser.set_defaults(run=run)


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME",
        help="names as in the tables, quoted or with hyphens: scvi logistic-regression scgenemamba (default: all)",
    )
    parser.add_argument(
        "--tasks",
        nargs="+",
        default=list(_TASKS),
        choices=_TASKS,
        help="integration without labels, integration with those of the reference, annotation (default: all)",
    )
    parser.add_argument(
        "--splits",
        nargs="+",
        default=list(_SPLITS),
        choices=_SPLITS,
        type=lambda name: name.replace("-", " "),
        help="labels that are hidden: of each batch in turn, of a random fifth, of all but a tenth (default: all)",
    )
    parser.add_argument("--max-folds", type=int, default=5, help="most batches hidden in turn (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds (%(default)s)")
