"""Checkpoints that are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from scgenemamba._logging import logger

_PARTIAL = ".partial"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, to the disk, and then puts it there in one step.

    Lightning's own way writes to the folder for temporary files, and from there to a checkpoint on another disk it is a copy, which
    may be cut short.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises
        ------
        OSError
            Naming the file, if the disk is full, say; what was there before stays.
        """
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(place.name + _PARTIAL)
        try:
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(place)
        except (OSError, RuntimeError) as error:
            # torch reports a full disk as RuntimeError
            partial.unlink(missing_ok=True)
            free = shutil.disk_usage(place.parent).free / 1e9
            msg = f"The checkpoint {place} could not be written ({free:.2f} GB free): {error}. Checkpoints before it are as they were."
            raise OSError(msg) from error


class LatestCheckpoints(Checkpoint):
    """Saves every few steps, and when the process is asked to end, as schedulers do before they take a machine away.

    Lightning's :class:`~lightning.pytorch.callbacks.ModelCheckpoint` keeps the latest few only where it watches a metric, and then waits
    for the next validation.

    Parameters
    ----------
    folder
        Where checkpoints are written, by their steps: ``step=100.ckpt``.
    every_n_steps
        Steps between two.
    keep
        How many of them stay.
    """

    def __init__(self, folder: str | Path, every_n_steps: int, keep: int) -> None:
        for name, value in (("every_n_steps", every_n_steps), ("keep", keep)):
            if value < 1:
                msg = f"{name} must be at least 1, got {value}."
                raise ValueError(msg)
        self.folder, self.every_n_steps, self.keep = Path(folder), every_n_steps, keep
        self._saved = 0

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save, if it is time; at the end of an epoch only when the loop has counted it."""
        if not trainer.is_last_batch:
            self._save_if_due(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, if it is time."""
        self._save_if_due(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Save, if the process was asked to end; Lightning raises that between two steps, in all processes."""
        if isinstance(exception, SIGTERMException):
            if trainer.global_step > self._saved:
                self._save(trainer)
            logger.info(f"Asked to end after step {trainer.global_step}: all is saved in {self.folder}.")

    def _save_if_due(self, trainer: pl.Trainer) -> None:
        if trainer.global_step % self.every_n_steps == 0 and trainer.global_step > self._saved:
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        self._saved = trainer.global_step
        trainer.save_checkpoint(self.folder / f"step={trainer.global_step}.ckpt", weights_only=False)
        if trainer.is_global_zero:
            for path in _by_step(self.folder)[self.keep :]:
                path.unlink()


def newest_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint of the latest step that is whole, ``None`` if there is none.

    Parameters
    ----------
    folder
        Checkpoints named by their steps, ``step=100.ckpt``.
    """
    for path in _by_step(Path(folder)):
        if _is_whole(path):
            return path
        logger.warning(f"{path} is damaged; trying the one before.")
    return None


def _by_step(folder: Path) -> list[Path]:
    return sorted(folder.glob("step=*.ckpt"), key=_step_of, reverse=True)


def _step_of(path: Path) -> int:
    digits = path.stem.removeprefix("step=")
    return int(digits) if digits.isdigit() else -1


def _is_whole(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False
