"""What each part of the model gives: the comparison of ``scgenemamba benchmark`` with parts left out or changed.

    python benchmarks/ablation.py --data pbmc_two_studies.h5ad --batch batch --labels cell_type --seeds 3

Runs are kept in the folder ``--out``, so an interrupted ablation can be started again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from _labelled import make_parser, read

from scgenemamba import metrics

#: Arguments of GeneMambaModel that differ from the default.
CHANGES: dict[str, dict[str, object]] = {
    "no alignment": {"alignment_weight": 0.0},
    "alignment 10": {"alignment_weight": 10.0},
    "alignment 100": {"alignment_weight": 100.0},
    "normal prior": {"prior": "normal"},
    "no masked genes": {"masked_weight": 0.0},
    "masked genes weigh 1": {"masked_weight": 1.0},
    "no counts": {"n_decoder_genes": 0},
    "decoder of 128": {"n_hidden": 128},
    "mean pooling": {"pooling": ("mean",)},
    "128 genes a cell": {"max_tokens": 128},
    "512 genes a cell": {"max_tokens": 512},
    "one direction a layer": {"fusion": "alternate"},
    "labels weigh 50": {"label_weight": 50.0},
}


def main() -> None:
    """Run the comparison and print its tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("ablation"))
    parser.add_argument("--tasks", nargs="+", default=["integration", "label-aware", "annotation"])
    parser.add_argument("--splits", nargs="+", default=["by batch", "scarce"])
    parser.add_argument("--only", nargs="+", choices=list(CHANGES), default=list(CHANGES))
    parser.add_argument("--max-epochs", type=int)
    arguments = parser.parse_args()
    changed = [metrics.GeneMamba(name, model=CHANGES[name]) for name in arguments.only]
    result = metrics.benchmark(
        read(arguments),
        batch_key=arguments.batch,
        labels_key=arguments.labels,
        out=arguments.out,
        methods=["scGeneMamba", *changed, "without backbone", "random weights"],
        tasks=arguments.tasks,
        splits=arguments.splits,
        seeds=arguments.seeds,
        preset=arguments.preset,
        max_epochs=arguments.max_epochs,
        command=" ".join(sys.argv),
        progress=print,
    )
    print(result.table())


if __name__ == "__main__":
    main()
