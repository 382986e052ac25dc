"""Speed of pretraining at the size of the paper: from disk and from memory, on one and on several GPUs, with the pathway term.

    python benchmarks/pretraining_speed.py --devices 1 2 --gene-sets reactome.gmt.gz

Each case is a process of its own that trains on the cells of a file, with the optimiser, validation left out; with several devices,
one alone accumulates as many batches for a step. Printed are tokens per second (the median over windows of five steps after the first
fifteen, the slowest and the fastest), the share of the time spent waiting for cells, and the losses along the way.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

import lightning.pytorch as pl
import scvi
import torch
from _labelled import DATA, say_where
from torch.utils.data import DataLoader

from scgenemamba import GeneMambaModel
from scgenemamba.train import CellStreamModule, TrainingMonitor

WINDOW, WARM_UP = 5, 15


class InMemory(CellStreamModule):
    """Batches that were read and ranked beforehand."""

    def train_dataloader(self) -> DataLoader:
        """The batches of the first epoch, again in each epoch."""
        return DataLoader([*super().train_dataloader()], batch_size=None)  # type: ignore[arg-type]


class Windows(pl.loggers.logger.DummyLogger):
    """Keeps what the monitor tells."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[dict[str, float]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Keep."""
        if "tokens_per_s" in metrics:
            self.told.append(metrics)


def measure(arguments: argparse.Namespace) -> None:
    """One case in this process (and those that Lightning starts)."""
    scvi.settings.seed = 0
    n_devices = arguments.devices[0]
    cells = GeneMambaModel.setup_files(
        arguments.cells, gene_key=arguments.gene_key, batch_size=arguments.batch_size, held_out=0.05
    )
    if arguments.measure == "memory":
        cells.__class__ = InMemory
    model = GeneMambaModel(registry=cells.registry, preset=arguments.preset, masked_weight=1.0)
    windows = Windows()
    model.train(
        datamodule=cells,
        max_epochs=arguments.epochs,
        gene_sets=arguments.gene_sets if arguments.measure == "pathway" else None,
        devices=n_devices,
        strategy="ddp" if n_devices > 1 else "auto",
        accumulate_grad_batches=arguments.accumulate,
        limit_val_batches=0,
        enable_progress_bar=False,
        callbacks=[TrainingMonitor(WINDOW, [windows])],
    )
    if model.trainer.global_rank:
        return
    warm = windows.told[WARM_UP // WINDOW :]
    found = {name: median(told[name] for told in warm) for name in ("tokens_per_s", "cells_per_s", "data_wait")}
    if "mfu" in warm[0]:
        found["mfu"] = median(told["mfu"] for told in warm)
    if torch.cuda.is_available():
        found["gib"] = torch.cuda.max_memory_reserved() / 2**30
    found["spread"] = [min(told["tokens_per_s"] for told in warm), max(told["tokens_per_s"] for told in warm)]
    found["losses"] = [round(told["train_loss_step"], 3) for told in windows.told]
    print("RESULT " + json.dumps({"source": arguments.measure, "devices": n_devices, **found}), flush=True)


def main() -> None:
    """All cases, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=Path, default=DATA / "human_unlabelled_mix.h5ad")
    parser.add_argument("--gene-key", default="gene_symbol")
    parser.add_argument("--gene-sets", type=Path)
    parser.add_argument("--preset", default="large")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--devices", type=int, nargs="+", default=[1])
    parser.add_argument("--only-disk", action="store_true", help="leave out cells in memory")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--accumulate", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        measure(arguments)
        return
    say_where()
    cases = [("disk", 1), *([] if arguments.only_disk else [("memory", 1)])]
    cases += [("pathway", 1)] if arguments.gene_sets else []
    cases += [("disk", n) for n in arguments.devices if n > 1]
    for source, devices in cases * arguments.repeats:
        command = [sys.executable, __file__, *sys.argv[1:], "--measure", source, "--devices", str(devices)]
        # a step sees as many cells on any number of devices
        command += ["--accumulate", str(max(arguments.devices) // devices)]
        told = subprocess.run(command, capture_output=True, text=True)
        lines = [line.removeprefix("RESULT ") for line in told.stdout.splitlines() if line.startswith("RESULT ")]
        print(
            lines[0] if lines else f"{source} on {devices} failed:\n{told.stdout[-1000:]}{told.stderr[-3000:]}",
            flush=True,
        )


if __name__ == "__main__":
    main()
