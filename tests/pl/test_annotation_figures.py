"""Figures of probabilities, prediction sets, predictions and novelty show the right numbers."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from scgenemamba import pl

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close():
    yield
    mpl.pyplot.close("all")


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def ticks(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def two_labels(confidence, right):
    """Probabilities of labels a and b: a is predicted with some confidence, and is the truth for the first cells."""
    table = pd.DataFrame({"a": confidence, "b": 1 - np.asarray(confidence)})
    return ["a"] * right + ["b"] * (len(table) - right), table


def test_calibration_shows_accuracy_by_confidence():
    true, table = two_labels([0.9] * 20, 15)
    more = two_labels([0.75] * 20, 15)
    both = pd.concat([table, more[1]])
    ax = pl.calibration_curve([*true, *more[0]], both, n_bins=10)
    (curve,) = ax.get_legend_handles_labels()[0]
    np.testing.assert_allclose(curve.get_xdata(), [0.75, 0.9])
    np.testing.assert_allclose(curve.get_ydata(), [0.75, 0.75])
    # half of the cells are right as often as they say, the others less by 0.15
    assert legend(ax) == ["ECE 0.075"]


def test_expected_calibration_error_is_that_of_the_definition():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.dirichlet(np.ones(4), size=500), columns=list("abcd"))
    true = rng.choice(list("abcd"), size=500)
    confidence, hit = table.max(axis=1).to_numpy(), table.idxmax(axis=1).to_numpy() == true
    wanted = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            wanted += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    assert legend(pl.calibration_curve(true, {"mine": table})) == [f"mine: ECE {wanted:.3f}"]


def test_calibration_of_several_methods_and_unknown_labels():
    true, table = two_labels([1.0] * 20, 20)
    ax = pl.calibration_curve(["new"] * 5 + true[5:], {"one": table, "two": table.astype(np.float32)})
    # a label that no method has is an error of both
    assert legend(ax) == ["one: ECE 0.250", "two: ECE 0.250"]
    assert legend(pl.calibration_curve([None] * 5 + true[5:], table)) == ["ECE 0.000"]


def test_bins_of_few_cells_are_apart_from_the_curve():
    true, table = two_labels([0.9] * 20 + [0.6] * 3, 20)
    ax = pl.calibration_curve(true, table)
    (curve,) = ax.get_legend_handles_labels()[0]
    np.testing.assert_allclose(curve.get_xdata(), [0.9])
    hollow = next(line for line in ax.lines if line.get_markerfacecolor() == "white")
    np.testing.assert_allclose(hollow.get_xdata(), [0.6])


SETS = pd.DataFrame({"a": [1, 1, 1, 0, 0, 0], "b": [1, 0, 0, 1, 0, 0]}).astype(bool)


def test_coverage_of_each_label_and_of_all_cells():
    ax = pl.coverage_by_class(["a", "a", "a", "a", "b", "b"], SETS, nominal=0.8)
    assert ticks(ax) == ["all cells (n=6)", "a (n=4)", "b (n=2)"]
    shares = {
        round(y): x for dots in ax.collections if hasattr(dots, "get_sizes") for x, y in np.asarray(dots.get_offsets())
    }
    assert shares == pytest.approx({0: 0.5, 1: 0.75, 2: 0.0})
    assert [text.get_text() for text in ax.texts] == ["0.83", "1.25", "0.00", "labels\nper set"]
    assert list(ax.lines[0].get_xdata()) == [0.8, 0.8]
    assert ax.get_xlabel() == "share of cells whose set holds the true label"


def test_coverage_leaves_out_what_no_set_can_hold_and_says_so():
    ax = pl.coverage_by_class(["a", "a", "a", "new", "other", None], SETS)
    assert ticks(ax) == ["all cells (n=3)", "a (n=3)"]
    assert ax.get_xlabel().endswith("(3 cells left out: new, other)")
    with pytest.raises(ValueError, match=r"No true label.*\['a', 'b'\]"):
        pl.coverage_by_class(["x"] * 6, SETS)


def test_binomial_intervals():
    from scgenemamba.pl._coverage import binomial_interval

    low, high = binomial_interval(np.array([0, 10, 81]), np.array([10, 10, 263]))
    # the last is the example of Newcombe 1998, table I
    np.testing.assert_allclose(low, [0, 0.7225, 0.2553], atol=5e-4)
    np.testing.assert_allclose(high, [0.2775, 1, 0.3662], atol=5e-4)


def test_f1_of_each_label():
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    true = rng.choice(["a", "b", "c"], p=[0.2, 0.5, 0.3], size=200)
    said = {
        "ours": np.where(rng.random(200) < 0.7, true, "c"),
        "theirs": np.where(rng.random(200) < 0.4, true, "other"),
    }
    ax = pl.per_class_f1(true, said)
    names = list(pd.Series(true).value_counts().index)
    assert ticks(ax) == [f"{name} (n={(true == name).sum()})" for name in names]
    handles, labels = ax.get_legend().legend_handles, legend(ax)
    assert len(handles) == 2
    drawn = {dots.get_label().split(":")[0]: np.asarray(dots.get_offsets()) for dots in ax.collections[1:]}
    for name, predicted in said.items():
        wanted = f1_score(true, predicted, labels=names, average=None)
        np.testing.assert_allclose(drawn[name][:, 0], wanted)
        np.testing.assert_array_equal(drawn[name][:, 1], [0, 1, 2])
        assert f"{name}: mean F1 {wanted.mean():.3f}" in labels
    assert labels[0].startswith("ours")


def test_f1_counts_cells_with_labels_only():
    ax = pl.per_class_f1(["a", None, "b"], {"m": ["a", "a", "a"]})
    (dots,) = ax.collections[1:]
    np.testing.assert_allclose(np.asarray(dots.get_offsets())[:, 0], [2 / 3, 0])
    with pytest.raises(ValueError, match="nothing to draw"):
        pl.per_class_f1(["a"], {})
    with pytest.raises(ValueError, match="nothing to draw"):
        pl.per_class_f1([None], {"m": ["a"]})


def test_novelty_of_known_and_new_cells():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    score = np.r_[rng.gamma(2, 0.2, 300), rng.gamma(6, 0.3, 100)].round(2)
    new = np.arange(400) >= 300
    ax = pl.novelty(score, new)
    known, unseen = ((score[part] > 1).mean() for part in (~new, new))
    assert legend(ax) == [
        f"known types (n=300): {known:.1%} above",
        f"new types (n=100): {unseen:.1%} above",
        "threshold 1",
    ]
    assert ax.get_legend().get_title().get_text().endswith(f"{roc_auc_score(new, score):.3f}")
    # bars are shares of their own group
    heights = sum(bar.get_height() for bar in ax.containers[0])
    assert heights == pytest.approx(1)
    assert legend(pl.novelty(score, threshold=2))[-1] == "threshold 2"
    only = pl.novelty(score, np.zeros(400, dtype=bool))
    assert "new types (n=0): 0.0% above" in legend(only)


def test_outliers_are_counted_in_the_last_bar():
    score = np.r_[np.full(50, 0.5), np.full(50, 1e6)]
    ax = pl.novelty(score)
    assert ax.get_xlim() == (0, 5)
    assert ax.containers[0][-1].get_height() == pytest.approx(0.5)
    assert "last bar" in ax.get_xlabel()
    assert "last bar" not in pl.novelty(np.full(50, 0.5)).get_xlabel()


def test_novelty_of_each_label():
    score = [0.1, 0.2, 3.0, 2.0, 0.5, 1.5]
    ax = pl.novelty(score, [False, False, True, True, False, False], labels=["a", "a", "n", "n", "b", "b"])
    assert ticks(ax) == ["a (n=2)", "b (n=2)", "n (n=2)"]
    assert [text.get_text() for text in ax.texts] == ["0%", "50%", "100%", "above"]
    colors = [patch.get_facecolor() for patch in ax.patches]
    assert colors[0] == colors[1] != colors[2]
    assert legend(ax) == ["known types", "new types", "threshold 1"]


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: pl.calibration_curve(["a"], pd.DataFrame({"a": [1.0, 1.0]})), "2 cells, got 1"),
        (lambda: pl.calibration_curve([None], pd.DataFrame({"a": [1.0]})), "No cell has a true label"),
        (lambda: pl.coverage_by_class(["a"], SETS), "6 cells, got 1"),
        (lambda: pl.per_class_f1(["a", "b"], {"mine": ["a"]}), "mine must have a label for each of 2 cells, got 1"),
        (lambda: pl.novelty([1.0, np.nan]), "1 novelty scores are not finite"),
        (lambda: pl.novelty([1.0, 2.0], [True]), "2 cells, got 1"),
        (lambda: pl.novelty([1.0, 2.0], labels=["a"]), "2 cells, got 1"),
    ],
)
def test_what_does_not_fit_is_refused(draw, words):
    with pytest.raises(ValueError, match=words):
        draw()


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: pl.calibration_curve(*two_labels([0.9] * 20, 15), ax=ax),
        lambda ax: pl.coverage_by_class(["a"] * 6, SETS, ax=ax),
        lambda ax: pl.per_class_f1(["a", "b"], {"m": ["a", "a"]}, ax=ax),
        lambda ax: pl.novelty([0.5, 2.0], ax=ax),
        lambda ax: pl.novelty([0.5, 2.0], labels=["a", "b"], ax=ax),
        lambda ax: pl.confusion_matrix(["a", "b"], ["a", "a"], ax=ax),
    ],
)
def test_given_axes_are_used_and_legends_hide_nothing(draw):
    figure, ax = mpl.pyplot.subplots(figsize=(5, 4), layout="constrained")
    assert draw(ax) is ax
    assert mpl.pyplot.get_fignums() == [figure.number]
    figure.canvas.draw()
    if ax.get_legend() is not None:
        assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1 - 1


def test_many_labels_have_no_text_in_the_fields():
    labels = [f"type {i}" for i in range(25)]
    assert not pl.confusion_matrix(labels, labels).texts
    few = pl.confusion_matrix(["a"] * 300 + ["b"], ["b"] + ["a"] * 299 + ["b"])
    # a share that would read 0.00 is left out, one that reads 1.00 is 1
    assert [text.get_text() for text in few.texts] == ["1", "", "", "1"]
