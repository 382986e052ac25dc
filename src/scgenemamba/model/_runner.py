"""What surrounds Lightning's fit: estimate of the time, checkpoints, and history as plain data."""

from __future__ import annotations

import warnings
from typing import Any

import pandas as pd
from lightning.pytorch.callbacks import Checkpoint
from scvi.train import SaveCheckpoint, TrainRunner

from scgenemamba.train import CellStreamModule, TrainingDuration

History = dict[str, dict[str, list[float]]]


class PlainHistoryRunner(TrainRunner):
    """TrainRunner that says how long training takes, takes Lightning's checkpoints, and keeps the history as lists.

    DataFrames pickled with one pandas do not load with another, lists do.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        callbacks = kwargs.get("callbacks", [])
        checkpoints = [c for c in callbacks if isinstance(c, Checkpoint) and not isinstance(c, SaveCheckpoint)]
        if checkpoints:
            # scvi-tools would add one of its own
            kwargs["enable_checkpointing"] = False
            kwargs["callbacks"] = [c for c in callbacks if c not in checkpoints]
        super().__init__(*args, **kwargs)
        # beside the user's callbacks, wherever they were given
        self.trainer.callbacks += [TrainingDuration(), *checkpoints]

    def __call__(self) -> None:
        """Run training."""
        with warnings.catch_warnings():
            # streams have no workers, and keep their position themselves
            if isinstance(self.data_splitter, CellStreamModule):
                warnings.filterwarnings("ignore", message="Your `IterableDataset` has `__len__`")
                warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before")
            super().__call__()

    def _update_history(self) -> None:
        if isinstance(self.model.history_, dict):
            self.model.history_ = to_frames(self.model.history_)
        super()._update_history()
        self.model.history_ = to_lists(self.model.history_ or {})


def to_lists(history: dict[str, pd.DataFrame]) -> History:
    """History of scvi-tools as lists."""
    return {
        key: {"epoch": [int(i) for i in frame.index], "value": [float(v) for v in frame.iloc[:, 0]]}
        for key, frame in history.items()
    }


def to_frames(history: History) -> dict[str, pd.DataFrame]:
    """History as scvi-tools shows it: a DataFrame of one column per metric, indexed by epoch."""
    return {
        key: pd.DataFrame({key: values["value"]}, index=pd.Index(values["epoch"], name="epoch"))
        for key, values in history.items()
    }
