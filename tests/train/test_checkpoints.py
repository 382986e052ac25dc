"""Checkpoints are whole or not there."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from scgenemamba.train import AtomicCheckpointIO, newest_checkpoint

WRITER = """
import sys, torch
from scgenemamba.train import AtomicCheckpointIO
io, i = AtomicCheckpointIO(), 0
while True:
    i += 1
    io.save_checkpoint({"step": i, "values": torch.full((2_000_000,), float(i))}, f"{sys.argv[1]}/step={i % 3 + 1}.ckpt")
    print(i, flush=True)
"""


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "new folder" / "step=1.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": torch.arange(3)}, path)
    assert torch.equal(AtomicCheckpointIO().load_checkpoint(path)["a"], torch.arange(3))
    assert [p.name for p in path.parent.iterdir()] == ["step=1.ckpt"]


def test_a_full_disk_is_named_and_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "step=1.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": 1}, path)

    def full(checkpoint, file):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"step=1\.ckpt could not be written .*GB free.*No space left"):
        AtomicCheckpointIO().save_checkpoint({"a": 2}, path)
    assert AtomicCheckpointIO().load_checkpoint(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["step=1.ckpt"]


def test_the_newest_whole_one_is_found(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    for step in (2, 10, 9):
        AtomicCheckpointIO().save_checkpoint({"step": step}, tmp_path / f"step={step}.ckpt")
    AtomicCheckpointIO().save_checkpoint({}, tmp_path / "best.ckpt")
    assert newest_checkpoint(tmp_path).name == "step=10.ckpt"
    damaged = tmp_path / "step=10.ckpt"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    assert newest_checkpoint(tmp_path).name == "step=9.ckpt"
    (tmp_path / "step=9.ckpt").write_bytes(b"")
    assert newest_checkpoint(tmp_path).name == "step=2.ckpt"


@pytest.mark.slow
def test_killed_while_writing_all_that_has_its_name_is_whole(tmp_path):
    draw = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, text=True)
        for _ in range(3):
            assert process.stdout.readline()
        time.sleep(draw.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = sorted(tmp_path.glob("*.ckpt"))
        assert len(found) == 3
        for path in found:
            saved = torch.load(path)
            assert (saved["values"] == saved["step"]).all()
