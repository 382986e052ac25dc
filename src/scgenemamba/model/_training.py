"""How training is run: number of epochs, and history as plain data."""

from __future__ import annotations

import pandas as pd
from scvi.train import TrainRunner

#: Cells seen in a default training run; small data sets are seen more often.
_CELL_VISITS = 100_000
_MIN_EPOCHS, _MAX_EPOCHS = 2, 100


def default_epochs(n_cells: int) -> int:
    """Number of epochs of a default training run."""
    return int(min(max(round(_CELL_VISITS / max(n_cells, 1)), _MIN_EPOCHS), _MAX_EPOCHS))


History = dict[str, dict[str, list[float]]]


class PlainHistoryRunner(TrainRunner):
    """TrainRunner that keeps the history as lists.

    DataFrames pickled with one pandas do not load with another, lists do.
    """

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
