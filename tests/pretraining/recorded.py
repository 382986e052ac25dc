"""Pretraining in a process of its own that writes down which cells each step sees; may kill it at random moments.

recorded.py CONFIG.yaml RECORD [NUMBER OF KILLS]
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from lightning.pytorch.callbacks import Callback

from scgenemamba.cli import main
from scgenemamba.pretraining import _run


class Recorder(Callback):
    """Writes step, epoch and cells, as soon as the step is made."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer, plan, outputs, batch, batch_idx):
        path = self.path.with_suffix(f".{trainer.global_rank}")
        with path.open("a") as file:
            file.write(f"{trainer.global_step} {trainer.current_epoch} {','.join(map(str, batch['cell'].tolist()))}\n")


def train(config: str, record: Path) -> int:
    """The whole pretraining."""
    callbacks = _run._callbacks
    # the checkpoint of a step comes after its record
    _run._callbacks = lambda *arguments: [Recorder(record), *callbacks(*arguments)]
    return main(["pretrain", "--config", config])


def steps_of(record: Path) -> int:
    """Steps that are written down, again and again if they were made again."""
    path = record.with_suffix(".0")
    return path.read_text().count("\n") if path.exists() else 0


def killed(config: str, record: Path, n_kills: int) -> int:
    """As above, in processes that are killed at random moments."""
    draw = random.Random(0)
    for _ in range(n_kills):
        # as light as a new process, without loading all modules anew: nothing has been computed before
        child = os.fork()
        if child == 0:
            os._exit(train(config, record))
        until = steps_of(record) + draw.randint(1, 9)
        while steps_of(record) < until:
            if os.waitpid(child, os.WNOHANG)[0]:
                return 3
            time.sleep(0.001)
        time.sleep(draw.random() * 0.02)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return train(config, record)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    n_kills = int(arguments[2]) if len(arguments) > 2 else 0
    sys.exit(killed(arguments[0], Path(arguments[1]), n_kills) if n_kills else train(arguments[0], Path(arguments[1])))
