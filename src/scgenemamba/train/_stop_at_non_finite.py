"""Stopping before a loss that is no number spoils the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch


class StopAtNonFinite(pl.Callback):
    """Stops when a loss is infinite or not a number, before any weight has changed, and keeps the batch.

    Parameters
    ----------
    folder
        Where the batch is written to, with the step, the epoch, the seed and the weights: enough to see it again.

    Raises
    ------
    FloatingPointError
        Naming the file.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._batch: Any = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the batch."""
        self._batch = batch

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor) -> None:
        """Look at the loss."""
        if bool(torch.isfinite(loss)):
            return
        step, epoch = trainer.global_step, trainer.current_epoch
        path = self.folder / f"non_finite_step={step}_rank={trainer.global_rank}.pt"
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.save(
            {
                "batch": {name: value.cpu() for name, value in self._batch.items()},
                "loss": float(loss),
                "step": step,
                "epoch": epoch,
                "seed": getattr(pl_module, "seed", None),
                "state_dict": pl_module.state_dict(),
            },
            path,
        )
        msg = (
            f"The loss is {float(loss)} at step {step}. Its batch and the weights before it are in {path}. Often the learning rate "
            "is too high: go on from a checkpoint with a lower one."
        )
        raise FloatingPointError(msg)
