"""What a long training tells while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch.loggers import Logger

# a step costs the forward pass and, for the gradients, twice as much
_FORWARD_PASSES = 3


class TrainingMonitor(pl.Callback):
    """Logs loss, learning rate and speed every few steps, and shows cells per second in the progress bar.

    Logged are ``train_loss_step``, ``lr``, ``tokens`` (seen so far by all processes), ``cells_per_s``, ``tokens_per_s``,
    ``data_wait`` (share of the time in which a stream made the process wait for cells) and, where the device's peak is known, ``mfu``: the
    share of that peak in bfloat16 that the model's own floating point operations take.

    Parameters
    ----------
    every_n_steps
        How often is logged.
    loggers
        Written to beside those of the trainer.
    clock
        Seconds that have passed.

    Attributes
    ----------
    tokens_seen
        By all processes, up to the last log, validation or end.
    """

    def __init__(
        self,
        every_n_steps: int = 50,
        loggers: Sequence[Logger] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.every_n_steps, self._loggers, self._clock = every_n_steps, loggers, clock
        self.tokens_seen = 0
        self._window = _Window()
        self._peak: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """Tokens seen so far."""
        return {"tokens_seen": self.tokens_seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count on."""
        self.tokens_seen = state_dict["tokens_seen"]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Add the loggers."""
        trainer.loggers = [*trainer.loggers, *(one for one in self._loggers if one not in trainer.loggers)]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        cuda = pl_module.device.type == "cuda"
        self._peak = get_available_flops(pl_module.device, torch.bfloat16) if cuda else None
        self._restart(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave validation out of the speed."""
        self._count(trainer)
        self._restart(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count what was not logged."""
        self._count(trainer)
        self._restart(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count, and log once in a while."""
        window, most = self._window, _module(pl_module).config.max_tokens
        window.cells += len(batch["cu_seqlens"]) - 1
        # on the device: to ask for the number would wait for it
        window.tokens = window.tokens + batch["cu_seqlens"].diff().clamp(max=most).sum()
        # Lightning has divided it by the batches of a step
        loss = outputs["loss"].detach() * trainer.accumulate_grad_batches
        window.loss, window.batches = window.loss + loss, window.batches + 1
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
        if stepped and trainer.global_step % self.every_n_steps == 0:
            self._log(trainer, pl_module)

    def _log(self, trainer: pl.Trainer, plan: pl.LightningModule) -> None:
        window, world = self._window, trainer.world_size
        tokens = self._count(trainer)
        if plan.device.type == "cuda":
            torch.cuda.synchronize(plan.device)
        seconds = max(self._clock() - window.began, 1e-9)
        metrics = {
            "train_loss_step": float(window.loss) / window.batches,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "tokens": float(self.tokens_seen),
            "cells_per_s": window.cells * world / seconds,
            "tokens_per_s": tokens * world / seconds,
        }
        waited = _waited(trainer)
        if waited is not None and waited >= window.waited:
            metrics["data_wait"] = (waited - window.waited) / seconds
        if self._peak:
            flops = _module(plan).flops_per_token * _FORWARD_PASSES
            metrics["mfu"] = metrics["tokens_per_s"] * flops / (self._peak * world)
        for one in trainer.loggers:
            one.log_metrics(dict(metrics), step=trainer.global_step - 1)
        plan.log("cells_per_s", metrics["cells_per_s"], prog_bar=True, logger=False, rank_zero_only=True)
        self._restart(trainer)

    def _count(self, trainer: pl.Trainer) -> int:
        tokens = int(self._window.tokens)
        self.tokens_seen += tokens * trainer.world_size
        return tokens

    def _restart(self, trainer: pl.Trainer) -> None:
        self._window = _Window(self._clock(), _waited(trainer) or 0.0)


def _module(plan: Any) -> Any:
    return plan.module


def _waited(trainer: Any) -> float | None:
    return getattr(getattr(trainer, "datamodule", None), "waited", None)


class _Window:
    """Sums since the last log."""

    def __init__(self, began: float = 0.0, waited: float = 0.0) -> None:
        self.began, self.waited = began, waited
        self.cells = self.batches = 0
        self.tokens: Any = 0
        self.loss: Any = 0.0
