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


def test_pretraining_curves_are_drawn_against_tokens():
    log = pd.DataFrame(
        {
            "tokens": [10.0, None, 30.0, None],
            "train_loss_step": [5.0, None, 4.0, None],
            "masked_genes_validation": [None, 4.5, None, 4.0],
            "masked_genes_validation_other_lab": [None, 4.7, None, 4.3],
        },
        index=[0, 1, 2, 3],
    )
    ax = pl.pretraining_curves(log, {"held_out": {"unigram": 6.0, "mean_rank": 5.5}})
    drawn = {line.get_label(): line for line in ax.lines}
    assert drawn["training"].get_xdata().tolist() == [10.0, 30.0]
    assert drawn["other lab"].get_xdata().tolist() == [20.0, 30.0]
    assert drawn["held out"].get_ydata().tolist() == [4.5, 4.0]
    assert drawn["held out, mean rank"].get_ydata() == [5.5, 5.5]
    assert ax.get_xlabel() == "tokens"
    with pytest.raises(ValueError, match="no tokens or losses"):
        pl.pretraining_curves(log.drop(columns="tokens"))
