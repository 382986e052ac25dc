"""Whatever ends a pretraining, it goes on to the same weights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from safetensors.numpy import load_file

pytest.importorskip("boost_histogram")
pytest.importorskip("jsonargparse")

SCRIPT = Path(__file__).with_name("recorded.py")
# of an epoch
N_CELLS, N_STEPS = 576, 18


def start(config, record, *options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), str(config), str(record), *map(str, options)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process, expected=0):
    told, _ = process.communicate(timeout=600)
    assert process.returncode == expected, told[-3000:]
    return told


def read(record, rank=0):
    """Cells by step; a step that was made again saw the same cells again."""
    found = {}
    for line in record.with_suffix(f".{rank}").read_text().splitlines():
        step, epoch, cells = line.split(" ")
        seen = (int(epoch), tuple(int(cell) for cell in cells.split(",")))
        assert found.setdefault(int(step), seen) == seen
    return found


def weights(out):
    return load_file(out / "model" / "model.safetensors")


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert (value == second[name]).all(), name


@pytest.mark.slow
def test_killed_ten_times_it_ends_as_if_it_never_was(config, tmp_path):
    longer = {"max_epochs": 6}
    finish(start(config("whole", training=longer), tmp_path / "whole"))
    finish(start(config("killed", training=longer), tmp_path / "killed", 10))
    whole, killed = read(tmp_path / "whole"), read(tmp_path / "killed")
    assert sorted(whole) == list(range(1, 6 * N_STEPS + 1))
    assert killed == whole
    for epoch in range(6):
        seen = Counter(cell for of, cells in killed.values() if of == epoch for cell in cells)
        assert len(seen) == N_CELLS
        assert set(seen.values()) == {1}
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))


@pytest.mark.slow
def test_asked_to_end_it_saves_and_goes_on_later(config, tmp_path):
    # checkpoints are far apart, so that only the signal can have made one
    rare = {"checkpoint_every_n_steps": 1000}
    longer = {"max_epochs": 12}
    finish(start(config("whole", output=rare, training=longer), tmp_path / "whole"))
    asked = config("asked", output=rare, training=longer)
    process = start(asked, tmp_path / "asked")
    record = (tmp_path / "asked").with_suffix(".0")
    while not record.exists() or record.read_text().count("\n") < 5:
        assert process.poll() is None, process.communicate()[0][-3000:]
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    told = finish(process, expected=143)
    (saved,) = (tmp_path / "asked" / "checkpoints").glob("step=*.ckpt")
    n_steps = len(read(tmp_path / "asked"))
    assert saved.stem == f"step={n_steps}"
    assert "Asked to end after step" in told
    finish(start(asked, tmp_path / "asked"))
    assert read(tmp_path / "asked") == read(tmp_path / "whole")
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "asked"))


@pytest.mark.slow
def test_two_processes_share_the_cells_and_learn_as_one(config, tmp_path):
    import pandas as pd

    finish(start(config("one", data={"batch_size": 64}), tmp_path / "one"))
    finish(start(config("two", training={"devices": 2, "strategy": "ddp"}), tmp_path / "two"))
    first, second = read(tmp_path / "two", 0), read(tmp_path / "two", 1)
    assert first.keys() == second.keys() == read(tmp_path / "one").keys()
    for epoch in (0, 1):
        seen = [cell for steps in (first, second) for of, cells in steps.values() if of == epoch for cell in cells]
        assert len(seen) == len(set(seen)) == N_CELLS
    losses = []
    for name in ("one", "two"):
        log = pd.read_csv(tmp_path / name / "logs" / "version_0" / "metrics.csv")
        losses.append(log["validation_loss"].dropna().to_numpy())
        assert (tmp_path / name / "report.json").exists()
    assert losses[0][-1] < losses[0][0]
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
