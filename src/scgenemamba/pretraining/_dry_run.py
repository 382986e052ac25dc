"""What a pretraining would take, before it is started."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch

from scgenemamba.model import available_bytes
from scgenemamba.train import in_words

from ._build import build, n_processes, training_arguments
from ._files import OutputFolder

if TYPE_CHECKING:
    from ._config import PretrainConfig

_STEPS = 24


@dataclass(frozen=True)
class DryRun:
    """What was found.

    Attributes
    ----------
    n_files, n_cells, n_genes
        Of the data that are trained on.
    skipped, repeated, empty
        Files that are left out and why; cells that are there twice, and cells without genes, by file.
    n_parameters
        Of the model.
    n_steps
        Of the whole training.
    memory, free_memory
        Bytes that a step took at most (on a CPU, the whole process), and that are free to it.
    disk, free_disk
        Bytes that the results take, and that are free.
    seconds
        Of the whole training.
    cells_per_s
        Of all processes, as measured by this one.
    """

    n_files: int
    n_cells: int
    n_genes: int
    skipped: dict[str, str]
    repeated: dict[str, int]
    empty: dict[str, int]
    n_parameters: int
    n_steps: int
    memory: float
    free_memory: float
    disk: float
    free_disk: float
    seconds: float
    cells_per_s: float

    def __str__(self) -> str:
        lines = [
            f"data      {self.n_cells:,} cells in {self.n_files} files, {self.n_genes:,} genes",
            *(f"          left out: {why}" for why in self.skipped.values()),
            *(f"          {n:,} cells of {path} are there twice" for path, n in self.repeated.items()),
            *(f"          {n:,} cells of {path} express nothing" for path, n in self.empty.items()),
            f"model     {self.n_parameters:,} parameters",
            f"memory    {_gb(self.memory)} of {_gb(self.free_memory)} for a step",
            f"disk      {_gb(self.disk)} of {_gb(self.free_disk)} for checkpoints and model",
            f"time      {in_words(self.seconds)} for {self.n_steps:,} steps, {self.cells_per_s:,.0f} cells/s, validation not counted",
        ]
        return "\n".join(lines)


def dry_run(config: PretrainConfig) -> DryRun:
    """Check data, memory, disk and settings with a few steps of the training, and throw them away.

    Runs on one device. The pass over the data is kept for the training itself.

    Parameters
    ----------
    config
        The pretraining.

    Raises
    ------
    FileNotFoundError, ValueError, OSError
        As the training would.
    """
    out = OutputFolder.of(config)
    out.start(config.resume)
    cells, model = build(config)
    n_parameters = sum(p.numel() for p in model.module.parameters())
    disk, free_disk = out.check_space(n_parameters, config)
    arguments = training_arguments(config, cells)
    processes = n_processes(config)
    n_batches = cells.n_batches(processes) * arguments["max_epochs"]
    probe = _Probe()
    trial: dict[str, Any] = {"devices": 1, "num_nodes": 1, "strategy": "auto", "max_steps": _STEPS, "logger": False}
    trial |= {"limit_val_batches": 0, "enable_progress_bar": False, "accumulate_grad_batches": 1}
    model.train(datamodule=cells, callbacks=[probe], **{**arguments, **trial})
    return DryRun(
        n_files=len(cells.found.sources),
        n_cells=cells.n_obs,
        n_genes=len(model.vocabulary),
        skipped=cells.found.skipped,
        repeated=cells.found.repeated,
        empty=cells.found.empty,
        n_parameters=n_parameters,
        n_steps=-(-n_batches // config.training.accumulate_grad_batches),
        memory=probe.memory,
        free_memory=probe.free,
        disk=disk,
        free_disk=free_disk,
        seconds=probe.seconds * n_batches,
        cells_per_s=config.data.batch_size * processes / max(probe.seconds, 1e-9),
    )


class _Probe(pl.Callback):
    """Seconds and memory of a step."""

    def __init__(self) -> None:
        self.seconds = self.memory = self.free = math.nan
        self._times: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Note the time, when the work is done."""
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        self._times.append(time.perf_counter())

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Sum up the steps after the first ones, in which kernels are compiled."""
        warm = self._times[len(self._times) // 2 :]
        self.seconds = (warm[-1] - warm[0]) / max(len(warm) - 1, 1) if warm else 0.0
        self.free = available_bytes(pl_module.device)
        if pl_module.device.type == "cuda":
            self.memory = float(torch.cuda.max_memory_reserved(pl_module.device))
        elif sys.platform == "linux":
            import resource

            self.memory = 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # what this process holds is free to the training
        self.free += self.memory


def _gb(n_bytes: float) -> str:
    return "an unknown amount" if math.isnan(n_bytes) else f"{n_bytes / 1e9:.1f} GB"
