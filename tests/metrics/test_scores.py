"""Scores of annotation, calibration, sets and novelty against what they are defined as."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scgenemamba import metrics

LABELS = np.array(["B", "NK", "T"])


def random_predictions(n_cells=300, seed=0):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.dirichlet(np.ones(3), size=n_cells), columns=LABELS)
    return rng.choice(LABELS, n_cells), table


def test_scores_are_those_of_scikit_learn():
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

    true, table = random_predictions()
    predicted = LABELS[table.to_numpy().argmax(1)]
    scores = metrics.annotation_scores(true, predicted, table)
    assert scores["accuracy"] == scores["accuracy_all"] == accuracy_score(true, predicted)
    assert scores["macro_f1"] == scores["macro_f1_all"] == pytest.approx(f1_score(true, predicted, average="macro"))
    assert scores["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(true, predicted))
    assert scores["ece"] == metrics.expected_calibration_error(true, table)
    assert (scores["n_cells"], scores["n_new"]) == (300, 0)


def test_types_that_training_did_not_see_are_not_in_the_main_scores():
    true = ["T", "T", "B", "new", "new"]
    predicted = ["T", "B", "B", "B", "T"]
    scores = metrics.annotation_scores(true, predicted, trained_on=["T", "B", "NK"])
    assert scores["accuracy"] == pytest.approx(2 / 3)
    # T: precision 1, recall 1/2; B: precision 1/2, recall 1
    assert scores["macro_f1"] == pytest.approx(2 / 3)
    assert scores["accuracy_all"] == pytest.approx(2 / 5)
    # T: 1 of 2 given and of 2 true; B: 1 of 3 given, of 1 true; new: 0
    assert scores["macro_f1_all"] == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert scores["n_new"] == 2
    assert np.isnan(scores["ece"])


def test_a_trained_type_that_is_not_in_the_query_does_not_count_as_a_class():
    scores = metrics.annotation_scores(["T", "B"], ["T", "NK"], trained_on=["T", "B", "NK"])
    assert scores["macro_f1"] == pytest.approx(0.5)
    assert scores["balanced_accuracy"] == pytest.approx(0.5)


def test_per_class_scores_have_a_row_for_each_true_type():
    table = metrics.per_class_scores(["T", "T", "B", "new"], ["T", "B", "B", "B"], trained_on=["T", "B"])
    assert list(table.index) == ["B", "T", "new"]
    assert table["support"].tolist() == [1, 2, 1]
    assert table.loc["T", ["precision", "recall"]].tolist() == [1, 0.5]
    assert table.loc["B", "precision"] == 0.5
    assert table.loc["new", ["precision", "recall", "f1"]].isna().all()


@pytest.mark.parametrize("n_bins", [1, 10, 15])
def test_calibration_error_is_that_of_torchmetrics(n_bins):
    torch = pytest.importorskip("torch")
    from torchmetrics.functional.classification import multiclass_calibration_error

    true, table = random_predictions(seed=3)
    expected = multiclass_calibration_error(
        torch.tensor(table.to_numpy()), torch.tensor(np.searchsorted(LABELS, true)), num_classes=3, n_bins=n_bins
    )
    assert metrics.expected_calibration_error(true, table, n_bins=n_bins) == pytest.approx(float(expected), abs=1e-6)


def test_calibration_error_of_sure_predictions():
    sure = pd.DataFrame(np.eye(3)[[0, 0, 0, 1]], columns=LABELS)
    assert metrics.expected_calibration_error(["B", "B", "B", "NK"], sure) == 0
    assert metrics.expected_calibration_error(["T", "T", "B", "new"], sure) == pytest.approx(3 / 4)


@pytest.mark.parametrize("values", [np.full((2, 3), 1.5), np.full((2, 3), np.nan), -np.ones((2, 3))])
def test_calibration_error_refuses_what_is_no_probability(values):
    with pytest.raises(ValueError, match="from 0 to 1"):
        metrics.expected_calibration_error(["B", "T"], pd.DataFrame(values, columns=LABELS))


def test_coverage_of_sets():
    sets = pd.DataFrame([[1, 1, 0], [0, 0, 0], [0, 1, 1], [1, 1, 1]], columns=LABELS).astype(bool)
    found = metrics.set_coverage(["B", "B", "T", "new"], sets)
    assert found.coverage == 0.5
    assert found.mean_size == 7 / 4
    assert found.per_class["coverage"].to_dict() == {"B": 0.5, "T": 1.0, "new": 0.0}
    assert found.per_class["mean_size"].to_dict() == {"B": 1.0, "T": 2.0, "new": 3.0}
    assert found.per_class["n_cells"].to_dict() == {"B": 2, "T": 1, "new": 1}


def test_novelty_auroc():
    assert metrics.novelty_auroc([True, True, False, False], [4, 3, 2, 1]) == 1
    assert metrics.novelty_auroc([True, False, True, False], [1, 1, 1, 1]) == 0.5
    for everything in (True, False):
        with pytest.raises(ValueError, match="both new and known"):
            metrics.novelty_auroc([everything] * 3, [1, 2, 3])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.annotation_scores([], []), "at least one"),
        (lambda: metrics.annotation_scores(["T"], ["T", "B"]), "1 true and 2 predicted"),
        (lambda: metrics.annotation_scores(["T"], ["T"], trained_on=["B"]), "None of the types"),
        (lambda: metrics.set_coverage(["T"], pd.DataFrame(columns=LABELS)), "1 labels and 0 rows"),
        (lambda: metrics.mean_interval([1.0], confidence=95), "between 0 and 1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_interval_is_students():
    values = [0.61, 0.64, 0.7]
    found = metrics.mean_interval([*values, np.nan])
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert found == pytest.approx((np.mean(values), low, high, 3))
    assert str(found) == "0.650 ± 0.114"


def test_interval_of_one_seed_has_no_bounds():
    found = metrics.mean_interval([0.5])
    assert found.mean == 0.5
    assert np.isnan(found.low) and np.isnan(found.high)
    assert str(found) == "0.500"
    assert metrics.mean_interval([]).n == 0
