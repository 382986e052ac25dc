"""Time and memory of one cell against its length, on one thread of a CPU.

python -m _speed.scaling RIVAL LENGTH
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scgenemamba.nn import BiMambaEncoder, GeneMambaConfig

from .cold import child_environment
from .encoder import Forward, Training, make_batch
from .results import Report, Result
from .rivals import matched_transformer
from .timing import time_in_turn

#: The network of the small preset.
SMALL = GeneMambaConfig(n_tokens=1_000, d_model=128, n_layers=2)
LENGTHS = (512, 1_024, 2_048, 4_096, 8_192, 16_384)
RIVALS: dict[str, Callable[[int], nn.Module]] = {
    "ours": lambda length: BiMambaEncoder(SMALL),
    "Transformer, matched": lambda length: matched_transformer(SMALL, length),
}

_CPU = torch.device("cpu")
_REPEATS = 3
_FEW = 128
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measure(report: Report, *, lengths: Sequence[int] = LENGTHS) -> None:
    """Measure each rival and length in a process of its own, whose memory nothing else has touched.

    Parameters
    ----------
    report
        Takes the results.
    lengths
        Tokens of the cell.
    """
    for rival in RIVALS:
        for length in lengths:
            command = [sys.executable, "-m", "_speed.scaling", rival, str(length)]
            child = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=True)
            for row in json.loads(child.stdout.strip().splitlines()[-1]):
                rates = {"tokens_per_s": length / row["seconds"], "cells_per_s": 1 / row["seconds"]}
                report(Result(part="scaling", rival=rival, length=length, threads=1, **row, **rates))


def measure_here(rival: str, length: int) -> list[dict[str, Any]]:
    """Time and peak memory of both tasks in this process."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = RIVALS[rival](length)
    batch, few = (make_batch(SMALL, size, size, _CPU) for size in (length, _FEW))
    tasks = {"forward": Forward(network), "training": Training(network)}
    for task in tasks.values():
        # brings in the code that the calls need, which is no memory of theirs
        task(few)
    before, rows = memory("VmRSS"), []
    for what, task in tasks.items():
        forget_peak()
        timing = time_in_turn({rival: partial(task, batch)}, _CPU, repeats=_REPEATS)[rival]
        peak = task.held() + memory("VmHWM") - before if before else None
        rows.append({"what": what, "seconds": timing.median, "spread": timing.spread, "peak_bytes": peak})
    return rows


def memory(key: str) -> int:
    """Resident bytes of this process now (``VmRSS``) or at most (``VmHWM``); 0 where Linux does not tell."""
    if not _STATUS.exists():
        return 0
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def forget_peak() -> None:
    """Let the most resident bytes be those of now."""
    if _RESET.exists():
        _RESET.write_text("5")


if __name__ == "__main__":
    print(json.dumps(measure_here(sys.argv[1], int(sys.argv[2]))))
