"""How training is run."""

from __future__ import annotations

import pytest

from scgenemamba.model._training import default_epochs
from scgenemamba.train import TrainingDuration


@pytest.mark.parametrize(
    ("n_cells", "epochs"),
    [(0, 100), (700, 100), (10_000, 10), (50_000, 2), (200_000, 2), (200_001, 1), (500_000, 1), (10**8, 1)],
)
def test_default_epochs(n_cells, epochs):
    assert default_epochs(n_cells) == epochs


def test_the_estimate_of_the_time_stands_beside_the_callbacks_of_the_user(adata, fit):
    from lightning.pytorch.callbacks import Callback

    theirs = [Callback(), Callback()]
    model = fit(adata, train={"callbacks": theirs[:1]})
    kinds = [type(callback) for callback in model.trainer.callbacks]
    assert theirs[0] in model.trainer.callbacks
    assert kinds.count(TrainingDuration) == 1
    model.train(max_epochs=1, batch_size=32, enable_progress_bar=False, trainer_config={"callbacks": theirs[1:]})
    assert theirs[1] in model.trainer.callbacks
    assert any(isinstance(callback, TrainingDuration) for callback in model.trainer.callbacks)
