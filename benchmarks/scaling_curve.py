"""Loss against tokens of pretrainings of several sizes.

    python benchmarks/scaling_curve.py runs/tiny runs/small runs/medium --out scaling_curve.png

Each folder is one that ``scgenemamba pretrain`` wrote. Drawn are the losses of hidden genes on each set of validation cells, and those of
the two guesses that do not read the cell.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

METRIC = "masked_genes_validation"
STYLES = {"unigram": ":", "mean_rank": "--"}


def read(run: Path) -> tuple[str, pd.DataFrame, dict[str, dict[str, float]]]:
    """Name, losses by tokens and last losses of a run."""
    report = json.loads((run / "report.json").read_text())
    log = pd.concat([pd.read_csv(path) for path in run.glob("logs/*/metrics.csv")]).groupby("step").last()
    log.index = log["tokens"].interpolate(limit_direction="both")
    return f"{run.name} ({report['n_parameters'] / 1e6:.1f} M parameters)", log, report["losses"]


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("scaling_curve.png"))
    arguments = parser.parse_args()
    runs = [read(run) for run in arguments.runs]
    names = list(runs[0][2])
    figure, axes = plt.subplots(1, len(names), figsize=(4.4 * len(names), 3.6), sharey=True, squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        column = METRIC if name == "held_out" else f"{METRIC}_{name}"
        for label, log, _ in runs:
            ax.plot(log[column].dropna(), marker=".", ms=4, label=label)
        for kind, style in STYLES.items():
            ax.axhline(runs[0][2][name][kind], color="0.5", ls=style, lw=1, label=kind.replace("_", " "))
        ax.set(xscale="log", title=name.replace("_", " "), xlabel="tokens")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("loss of hidden genes, nats")
    axes[0, -1].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(arguments.out, dpi=150)


if __name__ == "__main__":
    main()
