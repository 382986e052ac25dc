"""How long work takes, told early; clocks are made up."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from scgenemamba.train import TrainingDuration, announce_duration
from scgenemamba.train._progress import Pace, in_words


class Clock:
    """Shows the time that it is set to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def batch(n_cells: int = 10):
    return {"cu_seqlens": torch.zeros(n_cells + 1, dtype=torch.int64)}


def first_estimate(seconds_of_steps, n_steps):
    clock = Clock()
    pace = Pace(clock)
    for step, seconds in enumerate(seconds_of_steps, 1):
        clock.now += seconds
        found = pace.step(10, n_steps)
        if found is not None:
            return step, *found
    return None


def test_the_first_steps_do_not_count():
    # 30 s of compilation, then 1 s a step: 5 steps are skipped, 5 measured
    step, seconds, speed = first_estimate([30.0] + [1.0] * 99, 100)
    assert step == 10
    assert seconds == pytest.approx(30 + 99)
    assert speed == pytest.approx(10)


def test_slow_steps_need_not_be_many():
    step, seconds, _ = first_estimate([100.0] * 50, 50)
    assert step == 4
    assert seconds == pytest.approx(5000)


def test_short_work_ends_before_there_is_an_estimate():
    assert first_estimate([0.01] * 100, 100) is None


def run(clock, n_batches, seconds, known=True):
    batches = [batch()] * n_batches
    for _ in announce_duration(batches, n_batches if known else None, "Embedding", clock=clock):
        clock.now += seconds


def test_long_work_on_batches_is_told_once(messages):
    run(Clock(), 1000, 1.0)
    assert messages == ["Embedding takes about 17 min (10 cells/s)."]


def test_short_or_unknown_work_is_not_told(messages):
    run(Clock(), 20, 1.0)
    run(Clock(), 1000, 1.0, known=False)
    assert messages == []


def test_batches_are_handed_on():
    assert list(announce_duration([1, 2, 3], None, "Embedding")) == [1, 2, 3]


def train(n_steps, seconds, **trainer):
    clock = Clock()
    callback = TrainingDuration(clock)
    run = SimpleNamespace(
        **{
            "is_global_zero": True,
            "world_size": 1,
            "estimated_stepping_batches": n_steps,
            "accumulate_grad_batches": 1,
            "check_val_every_n_epoch": 10**9,
            "max_epochs": 1,
            **trainer,
        }
    )
    plan = SimpleNamespace(device=torch.device("cpu"), n_obs_training=900, n_obs_validation=100)
    callback.on_train_start(run, plan)
    for i in range(20):
        clock.now += seconds
        callback.on_train_batch_end(run, plan, None, batch(), i)


def test_long_training_is_told_once(messages):
    train(1000, 1.0)
    assert messages == ["Training takes about 17 min (1 epoch of 900 cells, 10 cells/s)."]


def test_short_training_is_not_told(messages):
    train(20, 1.0)
    assert messages == []


def test_validation_and_accumulation_count(messages):
    train(900, 1.0, max_epochs=5, check_val_every_n_epoch=1, accumulate_grad_batches=2)
    (message,) = messages
    # 1,800 steps of 900 cells and a third of the time for each of 100 more
    assert message.startswith("Training takes about 31 min (5 epochs")


def test_training_without_an_end_is_not_told(messages):
    train(float("inf"), 1.0, max_epochs=-1)
    assert messages == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(40.2, "40 s"), (89, "89 s"), (95, "2 min"), (720, "12 min"), (7260, "2 h 1 min"), (86_400, "24 h 0 min")],
)
def test_in_words(seconds, words):
    assert in_words(seconds) == words
