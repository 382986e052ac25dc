"""How training is run: number of epochs, estimate of the time, and history as plain data."""

from __future__ import annotations

from typing import Any

import pandas as pd
from scvi.train import TrainRunner

from scgenemamba.train import TrainingDuration

#: Cells seen in a default training run; small data sets are seen more often.
_CELL_VISITS = 100_000
_MAX_EPOCHS = 100
#: Above so many cells one pass shows the model more cells than it needs.
_ONE_PASS_ABOVE = 200_000


def default_epochs(n_cells: int) -> int:
    """Epochs of a default training run: as many as see 100,000 cells, at most 100.

    At least two, so that cells are seen with different genes hidden; above 200,000 cells one.
    """
    fewest = 1 if n_cells > _ONE_PASS_ABOVE else 2
    return int(min(max(round(_CELL_VISITS / max(n_cells, 1)), fewest), _MAX_EPOCHS))


History = dict[str, dict[str, list[float]]]


class PlainHistoryRunner(TrainRunner):
    """TrainRunner that says how long training takes, and keeps the history as lists.

    DataFrames pickled with one pandas do not load with another, lists do.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # beside the user's callbacks, wherever they were given
        self.trainer.callbacks.append(TrainingDuration())

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
