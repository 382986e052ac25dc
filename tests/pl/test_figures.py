"""Figures draw what they are given."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
import pytest

from scgenemamba import pl

mpl.use("Agg")


class Trained:
    """Something with a history."""

    history = {
        "train_loss": pd.DataFrame({"train_loss": [3.0, 2.0]}),
        "validation_loss": pd.DataFrame({"validation_loss": [4.0, 3.0]}),
        "kl_train": pd.DataFrame({"kl_train": [1.0, 0.5]}),
    }


def test_confusion_matrix_shows_shares_of_the_true_label():
    ax = pl.confusion_matrix(["a", "a", "b", "b"], ["a", "b", "b", "b"])
    mesh = ax.collections[0].get_array().reshape(2, 2)
    assert mesh.tolist() == [[0.5, 0.5], [0.0, 1.0]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a (n=2)", "b (n=2)"]


def test_training_curves():
    ax = pl.training_curves(Trained())
    assert [line.get_ydata().tolist() for line in ax.lines] == [[3.0, 2.0], [4.0, 3.0]]
    assert len(pl.training_curves(Trained(), metric="kl").lines) == 1
    with pytest.raises(ValueError, match="No metric 'nonsense'"):
        pl.training_curves(Trained(), metric="nonsense")
