"""Sentences about wins and losses, times, and progress."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scgenemamba.metrics._progress import Progress, duration
from scgenemamba.metrics._store import Run
from scgenemamba.metrics._verdict import over_seeds, verdicts


def runs(method, scores, *, ours=False, control=False, fold="", message=""):
    return pd.DataFrame(
        {
            "method": method,
            "seed": range(len(scores)),
            "fold": fold,
            "ours": ours,
            "control": control,
            "f1": np.asarray(scores, dtype=float),
            "message": message,
        }
    )


def verdict(*frames):
    return verdicts(pd.concat(frames), {"f1": "macro-F1"})


def test_a_loss_is_printed_as_plainly_as_a_win():
    rivals = [runs("scVI", [0.6, 0.62]), runs("PCA", [0.5]), runs("bag", [0.9, 0.9], control=True)]
    assert verdict(*rivals, runs("ours", [0.7, 0.73], ours=True)) == [
        "macro-F1: ours wins over the best rival, scVI, by +0.105 (0.715 against 0.610; 95 % interval of the difference "
        "+0.041 to +0.169)."
    ]
    assert verdict(*rivals, runs("ours", [0.5, 0.53], ours=True))[0].startswith(
        "macro-F1: ours loses to the best rival, scVI, by -0.095 (0.515 against 0.610;"
    )


def test_a_difference_within_the_interval_says_so():
    (line,) = verdict(runs("scVI", [0.6, 0.7]), runs("ours", [0.68, 0.66], ours=True))
    assert "wins over" in line and "which holds zero" in line


def test_a_rival_without_seeds_stands_for_all_seeds():
    (line,) = verdict(runs("PCA", [0.5]), runs("ours", [0.4, 0.5, 0.6], ours=True))
    assert "ties with the best rival, PCA, by +0.000" in line and "-0.248 to +0.248" in line


def test_only_queries_that_both_finished_are_compared():
    frames = [runs("scVI", [0.9], fold="easy"), runs("scVI", [np.nan], fold="hard", message="failed")]
    frames += [runs("ours", [0.9], ours=True, fold="easy"), runs("ours", [0.1], ours=True, fold="hard")]
    (line,) = verdict(*frames)
    assert "ties with the best rival, scVI, by +0.000 (0.500 against 0.900)" in line


def test_nothing_to_compare():
    assert verdict(runs("ours", [0.5], ours=True)) == ["ours: macro-F1 0.500; no rival to compare with."]
    assert verdict(runs("scVI", [0.5])) == []
    assert verdict(runs("scVI", [0.5]), runs("ours", [np.nan], ours=True, message="it broke")) == [
        "ours failed: no macro-F1."
    ]


def test_interval_is_over_seeds_of_means_over_folds():
    rows = pd.concat([runs("m", [0.2, 0.4], fold="a"), runs("m", [0.6, 0.8], fold="b")])
    found = over_seeds(rows, "f1")
    assert (found.mean, found.n) == (pytest.approx(0.5), 2)
    assert over_seeds(rows, "no such score").n == 0


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (540, "9 min"), (7500, "2 h 05 min")])
def test_duration(seconds, text):
    assert duration(seconds) == text


class Slow:
    name, seconds_per_1000_cells, label_free = "slow", 50.0, True


class Quick:
    name, seconds_per_1000_cells, label_free = "quick", 5.0, False


def test_the_estimate_learns_from_what_was_measured():
    lines = []
    todo = [Run(Quick(), None, 0), Run(Quick(), None, 1), Run(Slow(), None, 0)]
    progress = Progress(todo, 1000, quick=False, say=lines.append)
    before = progress.remaining()
    progress.start(2)
    assert lines[0].startswith("3 runs to do, about 65 s") and "2 finished before" in lines[0]
    progress.done(todo[0], 60.0)  # ten times as long as thought
    assert lines[1].startswith("[1/3] quick, no labels, seed 0 (60 s; about")
    assert progress.remaining() == pytest.approx(60 + 10 * 53)
    assert progress.remaining() > before
    progress.done(todo[1], 0.1, "it broke")
    assert lines[2] == "[2/3] quick, no labels, seed 1: failed: it broke"
    progress.done(todo[2], 10.0)
    assert lines[3] == "[3/3] slow, no labels, seed 0 (10 s)"
