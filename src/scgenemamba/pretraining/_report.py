"""What is left of a pretraining beside the model: its configuration, losses and a figure."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from scgenemamba.pl import pretraining_curves
from scgenemamba.train import TrainingMonitor

from ._files import write_whole

if TYPE_CHECKING:
    from scgenemamba.model import GeneMambaModel
    from scgenemamba.train import CellStreamModule

    from ._config import PretrainConfig
    from ._files import OutputFolder

_PACKAGES = ("scgenemamba", "torch", "lightning", "scvi-tools", "anndata")


def write_config(config: PretrainConfig, out: OutputFolder) -> None:
    """Keep the configuration of the last start, with all its values, as a file that the command reads."""
    out.path.mkdir(parents=True, exist_ok=True)
    write_whole(out.path / "config.yaml", yaml.safe_dump(asdict(config), sort_keys=False))


def read_log(out: OutputFolder) -> pd.DataFrame:
    """What was logged, by step, over all starts of a run; steps that were repeated count once."""
    parts = sorted((out.path / "logs").glob("version_*/metrics.csv"), key=lambda path: int(path.parent.name[8:]))
    # a run that was killed may have left an empty one
    table = pd.concat([pd.read_csv(path) for path in parts if path.stat().st_size])
    # rows of one step are parts of one line
    return table.groupby("step").last().sort_index()


def write_report(
    config: PretrainConfig,
    out: OutputFolder,
    cells: CellStreamModule,
    model: GeneMambaModel,
    baselines: dict[str, dict[str, float]],
) -> None:
    """Write the losses beside the baselines, as JSON and as a figure."""
    import matplotlib.pyplot as plt

    log = read_log(out)
    losses = {}
    for name in cells.validation_names:
        column = f"validation_loss_{name}" if name else "validation_loss"
        of_language = f"masked_genes_validation_{name}" if name else "masked_genes_validation"
        known: dict[str, Any] = {"loss": float(log[column].dropna().iloc[-1])}
        if of_language in log:
            known["masked_genes"] = float(log[of_language].dropna().iloc[-1])
        losses[name or "held_out"] = {**known, **baselines.get(name or "held_out", {})}
    report = {
        "losses": losses,
        "n_cells": cells.n_obs,
        "n_genes": len(model.vocabulary),
        "n_parameters": sum(p.numel() for p in model.module.parameters()),
        "tokens": next(c.tokens_seen for c in model.trainer.callbacks if isinstance(c, TrainingMonitor)),
        "steps": model.trainer.global_step,
        "skipped_files": cells.found.skipped,
        "repeated_cells": cells.found.repeated,
        "empty_cells": cells.found.empty,
        "versions": {package: version(package) for package in _PACKAGES},
        "config": asdict(config),
    }
    # a run that is shorter than the time between two logs has no curve
    if "train_loss_step" in log:
        figure: Any = pretraining_curves(log, baselines).figure
        figure.savefig(out.path / "loss.png", dpi=150)
        plt.close(figure)
    # the last: it says that the run has ended
    write_whole(out.report, json.dumps(report, indent=1))
