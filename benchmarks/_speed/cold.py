"""What a first user waits for: the first batch of a fresh process without compiled kernels.

python -m _speed.cold DEVICE TIME_OF_START
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .results import Report, Result

BENCHMARKS = Path(__file__).parents[1]


def measure(device: str, report: Report) -> None:
    """Start a process with an empty cache of Triton and report when it was how far.

    Parameters
    ----------
    device
        Where to run.
    report
        Takes the result.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {**child_environment(), "TRITON_CACHE_DIR": folder}
        command = [sys.executable, "-m", "_speed.cold", device, repr(time.time())]
        child = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if child.returncode:
        report(
            Result(part="cold", what="first batch", rival="ours", note=(child.stderr.strip() or "?").splitlines()[-1])
        )
        return
    details = json.loads(child.stdout.strip().splitlines()[-1])
    waited = details["gradients_s"] - details["import_s"]
    report(Result(part="cold", what="first batch", rival="ours", length=2_048, seconds=waited, details=details))


def child_environment() -> dict[str, str]:
    """Environment in which a child process finds this package."""
    paths = [str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def first_batches(device_name: str, started: float) -> dict[str, float]:
    """Seconds since the start of the process after each stage."""
    import torch

    from scgenemamba.nn import BiMambaEncoder

    from .encoder import BATCH_TOKENS, LARGE, Batch, make_batch

    times = {"import_s": time.time() - started}
    device = torch.device(device_name)

    def passed(stage: str) -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()
        times[f"{stage}_s"] = time.time() - started

    def run(batch: Batch) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return encoder(batch.tokens, batch.cu_seqlens, batch.masked)

    encoder = BiMambaEncoder(LARGE).to(device)
    batch, other = (make_batch(LARGE, length, BATCH_TOKENS, device) for length in (2_048, 1_000))
    passed("ready")
    with torch.no_grad():
        run(batch)
    passed("forward")
    run(batch).float().sum().backward()
    passed("gradients")
    # other lengths should not compile anything anew
    run(other).float().sum().backward()
    passed("other_lengths")
    return times


if __name__ == "__main__":
    print(json.dumps(first_batches(sys.argv[1], float(sys.argv[2]))))
