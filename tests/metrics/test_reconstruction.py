"""Scores of sequences, and of reconstructions by method."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scgenemamba.metrics import bleu, levenshtein, reconstruction_scores


def plain_levenshtein(a, b):
    if not a or not b:
        return len(a) + len(b)
    changed = plain_levenshtein(a[1:], b[1:]) + (a[0] != b[0])
    return min(changed, plain_levenshtein(a[1:], b) + 1, plain_levenshtein(a, b[1:]) + 1)


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "abc", 0), ("abc", "bca", 2), ("ab", "ba", 2), ("", "", 0)],
)
def test_known_distances(first, second, distance):
    assert levenshtein(first=list(first), second=list(second), normalised=False) == distance
    assert levenshtein(list(first), list(second)) == pytest.approx(distance / max(len(first), len(second), 1))


def test_distances_are_those_of_the_recursion():
    rng = np.random.default_rng(0)
    for _ in range(30):
        a, b = (rng.integers(3, size=rng.integers(0, 7)).tolist() for _ in range(2))
        assert levenshtein(a, b, normalised=False) == plain_levenshtein(a, b)


def test_numbers_are_not_text():
    assert levenshtein([1, 2], ["1", "2"]) == 1


def test_bleu_of_papineni():
    # example 2 of the paper: each word counts as often as the reference has it
    candidate = "the the the the the the the".split()
    assert bleu(candidate, "the cat is on the mat".split(), max_n=1) == pytest.approx(2 / 7)
    cut = "the cat is on the".split()
    assert bleu(cut, "the cat is on the mat".split()) == pytest.approx(np.exp(1 - 6 / 5))
    assert bleu("a b c d".split(), "a b d c".split(), max_n=2) == pytest.approx(np.sqrt(1 * 1 / 3))


def test_bleu_of_nothing_in_common_and_of_equal_ones():
    assert bleu([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], smooth=True) == 1
    assert bleu([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]) == 1
    assert bleu([1, 2], [3, 4], smooth=True) == 0
    assert bleu([1, 2, 3, 4], [1, 3, 2, 4]) == 0
    # one run of one of four, none of three, two and one longer ones, each with one more
    assert bleu([1, 5, 6, 7], [1, 2, 3, 4], smooth=True) == pytest.approx((1 / 4 * 1 / 4 * 1 / 3 * 1 / 2) ** 0.25)
    assert bleu([], [1]) == 0


def test_bleu_of_the_runs_around_some_places():
    true = list(range(20))
    guess = [*range(10), 99, *range(11, 20)]
    at = [i == 10 for i in range(20)]
    assert bleu(guess, true, counted=at) == 0
    assert bleu(true, true, counted=at) == 1
    # the wrong gene does not count, the right one is in 1 of 1, 2 of 2, 3 of 3 and 3 of 4 runs
    at_two = [i == 13 for i in range(20)]
    assert bleu(guess, true, counted=at_two) == pytest.approx((3 / 4) ** 0.25)
    with pytest.raises(ValueError, match="each of 20 places"):
        bleu(guess, true, counted=[True])
    with pytest.raises(ValueError, match="at least 1"):
        bleu(guess, true, max_n=0)


def table_of(n=200):
    rng = np.random.default_rng(0)
    ease = rng.normal(size=n)
    parts = []
    for method, shift in (("model", 0.0), ("unigram", 0.3)):
        noise = rng.normal(0, 0.01, n)
        scores = {"loss": 5 - ease + shift + noise, "top_1": ease - shift + noise, "spearman": ease, "n_hidden": 4}
        parts.append(pd.DataFrame({"cell": [f"c{i}" for i in range(n)], "method": method, **scores}))
    return pd.concat(parts, ignore_index=True)


def test_gains_are_paired_and_point_upwards():
    scores = reconstruction_scores(table_of())
    assert set(scores.index.get_level_values("score")) == {"loss", "top_1", "spearman"}
    for name in ("loss", "top_1"):
        row = scores.loc[name, "unigram"]
        assert row["gain"] == pytest.approx(0.3, abs=0.01)
        # cells differ a hundred times as much as methods' noise: only pairs tell
        assert row["gain_low"] > 0.29 and row["gain_high"] < 0.31
        assert row["high"] - row["low"] > 0.2
        assert row["low"] < row["mean"] < row["high"]
    assert (scores.xs("model", level="method")[["gain", "gain_low", "gain_high"]] == 0).all().all()


def test_intervals_are_those_of_the_mean():
    row = reconstruction_scores(table_of(400), n_resamples=4000).loc["spearman", "model"]
    values = table_of(400).query("method == 'model'")["spearman"]
    assert row["mean"] == pytest.approx(values.mean())
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.06)


def test_undefined_scores_and_groups():
    table = table_of(40).assign(kind=np.tile(np.repeat(["a", "b"], 20), 2))
    table.loc[3, "spearman"] = np.nan
    scores = reconstruction_scores(table, by="kind")
    assert scores.index.names == ["kind", "score", "method"]
    assert scores.loc["a", "spearman", "unigram"]["n_cells"] == 19
    assert scores.loc["b", "spearman", "unigram"]["n_cells"] == 20
    alone = reconstruction_scores(table[table["kind"] == "b"].drop(columns="kind"))
    pd.testing.assert_frame_equal(scores.loc["b"], alone)


def test_bad_tables_are_named():
    table = table_of(10)
    with pytest.raises(ValueError, match="no method 'best'"):
        reconstruction_scores(table, control="best")
    with pytest.raises(KeyError, match="no column 'kind'"):
        reconstruction_scores(table, by="kind")
    with pytest.raises(ValueError, match="cell 'c3' does not have one row"):
        reconstruction_scores(table.drop(3))
    with pytest.raises(ValueError, match="n_resamples"):
        reconstruction_scores(table, n_resamples=0)
