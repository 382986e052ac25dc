"""Forward passes recorded as CUDA graphs, so that small batches do not wait for Python to launch their kernels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch

# A larger batch keeps the GPU busy for longer than it takes to launch the kernels.
_MAX_ROWS = 65_536
# Shapes are rounded up, so that batches of similar size share a recording.
_ROWS, _SEQUENCES = 1_024, 16
_MAX_RECORDINGS = 8

#: Maps hidden states ``(t, d)``, bounds ``(n + 1,)`` and the greatest length to hidden states.
Run = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]


@dataclass(frozen=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    x: torch.Tensor
    bounds: torch.Tensor
    out: torch.Tensor


class Replay:
    """Replays a recording of a run over packed sequences where the same shape comes a second time."""

    def __init__(self) -> None:
        self._recordings: OrderedDict[tuple[object, ...], _Recording | None] = OrderedDict()

    def __call__(self, run: Run, x: torch.Tensor, bounds: torch.Tensor, longest: int, state: Hashable) -> torch.Tensor:
        """What ``run`` makes of ``x``, without a gradient.

        Parameters
        ----------
        run
            Must neither wait for the device nor draw random numbers.
        x
            Hidden states, ``(t, d)``.
        bounds
            Where the sequences begin and end, ``(n + 1,)``.
        longest
            Tokens of the longest sequence.
        state
            What a recording depends on beside its inputs, such as where the parameters lie.
        """
        n_rows, n_sequences = _round_up(len(x), _ROWS), _round_up(len(bounds) - 1, _SEQUENCES)
        if n_rows > _MAX_ROWS or not x.is_cuda:
            return run(x, bounds, longest)
        longest = 1 << (longest - 1).bit_length()
        half = torch.is_autocast_enabled(x.device.type) and torch.get_autocast_dtype(x.device.type)
        precision = torch.get_float32_matmul_precision()
        key = (n_rows, n_sequences, longest, x.dtype, x.device, half, precision, state)
        if key not in self._recordings:
            self._remember(key, None)
            return run(x, bounds, longest)
        recording = self._recordings[key]
        if recording is None:
            recording = _record(run, x, bounds, (n_rows, n_sequences, longest), self._pool())
        self._remember(key, recording)
        recording.x[: len(x)].copy_(x)
        recording.bounds.copy_(_pad_bounds(bounds, n_sequences))
        recording.graph.replay()
        return recording.out[: len(x)].clone()

    def __reduce__(self) -> tuple[type[Replay], tuple[()]]:
        # copies and pickles start without recordings
        return Replay, ()

    def _pool(self) -> Any:
        """The pool of memory of all recordings: they are replayed one after the other, and results are copied at once.

        It goes with the last of them, so that where there is none the next one has to open another.
        """
        return next((kept.graph.pool() for kept in self._recordings.values() if kept is not None), None)

    def _remember(self, key: tuple[object, ...], recording: _Recording | None) -> None:
        self._recordings[key] = recording
        self._recordings.move_to_end(key)
        while len(self._recordings) > _MAX_RECORDINGS:
            self._recordings.popitem(last=False)


def _record(run: Run, x: torch.Tensor, bounds: torch.Tensor, sizes: tuple[int, int, int], pool: Any) -> _Recording:
    """Record a run whose rows behind the last sequence belong to none."""
    n_rows, n_sequences, longest = sizes
    graph = torch.cuda.CUDAGraph()
    # buffers that outlive this call can be written in any mode
    with torch.inference_mode(False), torch.no_grad(), torch.cuda.device(x.device):
        room, padded = x.new_zeros(n_rows, x.shape[1]), _pad_bounds(bounds, n_sequences)
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            # the run may overwrite its input, which is written anew before each replay
            out = run(room, padded, longest)
    return _Recording(graph, room, padded, out)


def _pad_bounds(bounds: torch.Tensor, n_sequences: int) -> torch.Tensor:
    """Add empty sequences at the end."""
    return torch.cat([bounds, bounds[-1:].expand(n_sequences + 1 - len(bounds))])


def _round_up(n: int, step: int) -> int:
    return -(-n // step) * step
