"""Time and peak memory of several rivals in turn, so that they share the state of the machine."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

Call = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Repeats of one rival.

    Attributes
    ----------
    seconds
        Time of each repeat; empty if it failed.
    first
        Time of the very first call, which compiles and tunes.
    added_bytes
        GPU memory that a call takes at most beyond what was taken before; ``None`` on a CPU.
    failure
        Why there are no times.
    """

    seconds: tuple[float, ...] = ()
    first: float | None = None
    added_bytes: int | None = None
    failure: str = ""

    @property
    def median(self) -> float | None:
        """Median time."""
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def spread(self) -> float | None:
        """Slowest minus fastest, relative to the median."""
        return (max(self.seconds) - min(self.seconds)) / statistics.median(self.seconds) if self.seconds else None


def time_in_turn(calls: dict[str, Call], device: torch.device, *, repeats: int = 5) -> dict[str, Timing]:
    """Time each call ``repeats`` times, the calls in turn.

    Parameters
    ----------
    calls
        What to time. A call that fails is reported and does not keep the others from running.
    device
        Where they run.
    repeats
        Times per call.
    """
    warmed = {name: _warm_up(call, device) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name, timing in warmed.items() if not timing.failure}
    time_once = _time_on_cuda if device.type == "cuda" else _time_on_cpu
    for _ in range(repeats):
        for name, times in seconds.items():
            times.append(time_once(calls[name]))
    return {name: replace(timing, seconds=tuple(seconds.get(name, ()))) for name, timing in warmed.items()}


def _warm_up(call: Call, device: torch.device) -> Timing:
    """Run once, and on a GPU once more for its memory, which tuning in the first call would blur."""
    failure, first, added = "", None, None
    try:
        first = _time_on_cpu(call)
        if device.type == "cuda":
            torch.cuda.synchronize()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            call()
            torch.cuda.synchronize()
            added = torch.cuda.max_memory_allocated() - before
    except Exception as error:  # noqa: BLE001  (whatever a rival fails with, the others count)
        failure = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    if failure:
        # outside the handler, which still holds the tensors of the failed call
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return Timing(first=first, added_bytes=added, failure=failure)


def _time_on_cuda(call: Call) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    # another call first: it fills the allocator's cache and the queue after the rival before
    call()
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def _time_on_cpu(call: Call) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
