"""Telling the user early how long work will take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import lightning.pytorch as pl
import torch

from scgenemamba._logging import logger

# Kernels are compiled and buffers taken in the first steps; where steps are slow, that is a small part of one.
_WARM_UP_STEPS, _WARM_UP_SECONDS = 5, 60.0
_MEASURED_STEPS, _MEASURED_SECONDS = 3, 5.0
# A forward pass beside a whole step.
_COST_OF_VALIDATION = 1 / 3


class Pace:
    """Finds how long work takes from a few of its steps, after the first ones.

    Parameters
    ----------
    clock
        Seconds that have passed.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._began = clock()
        self._steps = 0
        self._warm: tuple[int, float] | None = None
        self._cells = 0

    def step(self, n_cells: int, n_steps: float) -> tuple[float, float] | None:
        """Count a step.

        Parameters
        ----------
        n_cells
            Cells of the step.
        n_steps
            Steps of the whole work.

        Returns
        -------
        Seconds of the whole work and cells per second, as soon as they are known; ``None`` before.
        """
        now = self._clock()
        self._steps += 1
        if self._warm is None:
            if self._steps >= _WARM_UP_STEPS or now - self._began >= _WARM_UP_SECONDS:
                self._warm = self._steps, now
            return None
        self._cells += n_cells
        measured, seconds = self._steps - self._warm[0], now - self._warm[1]
        if measured < _MEASURED_STEPS or seconds < _MEASURED_SECONDS:
            return None
        return now - self._began + (n_steps - self._steps) * seconds / measured, self._cells / seconds


class TrainingDuration(pl.Callback):
    """Logs how long training takes, if that is long.

    Attributes
    ----------
    long
        Seconds above which it is worth a message.
    """

    long = 60.0

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._pace: Pace | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start to measure."""
        self._pace = Pace(self._clock) if trainer.is_global_zero else None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log, once it is known."""
        if self._pace is None:
            return
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        n_cells = (len(batch["cu_seqlens"]) - 1) * trainer.world_size
        found = self._pace.step(n_cells, _equivalent_steps(trainer, pl_module))
        if found is None:
            return
        self._pace = None
        seconds, speed = found
        epochs = trainer.max_epochs or 0
        of_cells = f" of {pl_module.n_obs_training:,} cells" if hasattr(pl_module, "n_obs_training") else ""
        plural = "" if epochs == 1 else "s"
        _announce("Training", seconds, f"{epochs} epoch{plural}{of_cells}, {speed:,.0f} cells/s", self.long)


def announce_duration(
    batches: Iterable[Any],
    n_batches: int | None,
    what: str,
    *,
    long: float = 30.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Any]:
    """Hand on batches, and log how long all of them take if that is long.

    Parameters
    ----------
    batches
        Batches of cells.
    n_batches
        Their number, ``None`` if it is not known: then nothing is logged.
    what
        The work that is done on each, as the beginning of a sentence: ``"Embedding"``.
    long
        Seconds above which it is worth a message.
    clock
        Seconds that have passed.
    """
    pace = None if n_batches is None else Pace(clock)
    for batch in batches:
        yield batch
        # reached when the next batch is asked for: the work on this one is done
        if pace is not None and n_batches is not None:
            found = pace.step(len(batch["cu_seqlens"]) - 1, n_batches)
            if found is not None:
                _announce(what, found[0], f"{found[1]:,.0f} cells/s", long)
                pace = None


def _announce(what: str, seconds: float, details: str, long: float) -> None:
    if math.isfinite(seconds) and seconds >= long:
        logger.info(f"{what} takes about {in_words(seconds)} ({details}).", extra={"seconds": seconds})


def in_words(seconds: float) -> str:
    """Duration as one says it: ``"40 s"``, ``"12 min"``, ``"2 h 5 min"``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def _equivalent_steps(trainer: pl.Trainer, plan: pl.LightningModule) -> float:
    """Training steps of the whole run, validation counted as what it costs of them."""
    steps = float(trainer.estimated_stepping_batches) * trainer.accumulate_grad_batches
    trained, held_out = (getattr(plan, name, 0) for name in ("n_obs_training", "n_obs_validation"))
    every = trainer.check_val_every_n_epoch
    if not trained or every is None or every > (trainer.max_epochs or 0):
        return steps
    return steps * (1 + _COST_OF_VALIDATION * held_out / trained / every)
