"""Checkpoints that are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO
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
            free = _free(place.parent)
            msg = f"The checkpoint {place} could not be written ({free}): {error}. Checkpoints before it are as they were."
            raise OSError(msg) from error


class SaveOnSigterm(pl.Callback):
    """Saves a checkpoint when the process is asked to end, as schedulers do before they take a machine away.

    Parameters
    ----------
    folder
        Where the checkpoint is written, by its step.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Save, if that was the reason; Lightning raises it between two steps, in all processes."""
        if isinstance(exception, SIGTERMException):
            path = self.folder / f"step={trainer.global_step}.ckpt"
            if not path.exists():
                trainer.save_checkpoint(path)
            logger.info(f"Asked to end: saved {path}.")


def newest_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint of the latest step that is whole, ``None`` if there is none.

    Parameters
    ----------
    folder
        Checkpoints named by their steps, ``step=100.ckpt``.
    """
    by_step = sorted(Path(folder).glob("step=*.ckpt"), key=_step_of, reverse=True)
    for path in by_step:
        if _is_whole(path):
            return path
        logger.warning(f"{path} is damaged; trying the one before.")
    return None


def _step_of(path: Path) -> int:
    digits = path.stem.removeprefix("step=")
    return int(digits) if digits.isdigit() else -1


def _is_whole(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def _free(folder: Path) -> str:
    state = os.statvfs(folder) if hasattr(os, "statvfs") else None
    return "disk of unknown size" if state is None else f"{state.f_bavail * state.f_frsize / 1e9:.2f} GB free"
