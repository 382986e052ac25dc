"""Where the results of a pretraining are."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

from scgenemamba.train import newest_checkpoint

if TYPE_CHECKING:
    from ._config import PretrainConfig

# weights and two moments of AdamW, in single precision
_BYTES_PER_PARAMETER = 12
_BYTES_OF_AVERAGE = 4


@dataclass(frozen=True)
class OutputFolder:
    """Folder of a pretraining.

    Attributes
    ----------
    path
        The folder.
    """

    path: Path

    @classmethod
    def of(cls, config: PretrainConfig) -> OutputFolder:
        """The one that is asked for."""
        return cls(Path(config.out))

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """Folder of the trained model."""
        return self.path / "model"

    @property
    def data(self) -> Path:
        """Folder of what is known of the files."""
        return self.path / "data"

    @property
    def report(self) -> Path:
        """The report, which is there when training has ended."""
        return self.path / "report.json"

    def start(self, resume: str) -> Path | None:
        """Checkpoint to go on from, ``None`` to start anew.

        Raises
        ------
        FileExistsError
            If there are results that must not be gone on from.
        """
        found = newest_checkpoint(self.checkpoints)
        if resume == "never" and (found is not None or self.report.exists()):
            msg = (
                f"{self.path} holds the results of another run: give another `out`, or `resume: auto` to go on with it."
            )
            raise FileExistsError(msg)
        return found

    def check_space(self, n_parameters: int, config: PretrainConfig) -> tuple[float, float]:
        """Bytes that all results will take, and bytes that are free.

        Raises
        ------
        OSError
            If there is not so much.
        """
        each = n_parameters * (_BYTES_PER_PARAMETER + (_BYTES_OF_AVERAGE if config.training.ema_decay else 0))
        # the latest, the best, and one that is being written
        needed = float(each * (config.output.keep + 2) + 4 * n_parameters)
        existing = next(folder for folder in (self.path, *self.path.absolute().parents) if folder.exists())
        free = float(shutil.disk_usage(existing).free)
        if needed > free:
            msg = (
                f"The results in {self.path} will take {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free: choose another "
                "`out`, or a smaller `output.keep`."
            )
            raise OSError(msg)
        return needed, free


def write_whole(path: Path, text: str) -> None:
    """Write a file in one step: a run that is killed leaves the one that was there, and no part of a new one."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def files_of(patterns: list[str]) -> list[str]:
    """Files that patterns stand for, in order.

    Raises
    ------
    FileNotFoundError
        If a pattern stands for none.
    """
    found: list[str] = []
    for pattern in patterns:
        matches = sorted(glob(pattern, recursive=True)) if any(c in pattern for c in "*?[") else [pattern]
        if not matches:
            msg = f"No file matches {pattern!r}."
            raise FileNotFoundError(msg)
        found += matches
    return found
