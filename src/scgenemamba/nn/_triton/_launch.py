"""Launching kernels, and compiling several of them at the same time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import triton

_INTERPRETED = triton.knobs.runtime.interpret
_COMPILERS = 8

_started: list[Any] = []


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    tensors: tuple[torch.Tensor, ...],
    sizes: tuple[int, ...],
    constants: Mapping[str, object],
) -> None:
    """Launch a kernel on the current device, or only compile it if its tensors are on the meta device.

    Parameters
    ----------
    kernel
        A ``triton.jit`` function that takes the arguments in the order given here, and does not specialise on sizes.
    grid
        Programs along each axis.
    tensors, sizes
        Arguments that change from call to call.
    constants
        Constants of the kernel, and launch options such as ``num_warps``.
    """
    if not tensors[0].is_meta:
        kernel[grid](*tensors, *sizes, **constants)
    elif not _INTERPRETED:
        _started.append(kernel.warmup(*[t.dtype for t in tensors], *sizes, grid=grid, **constants))


@contextmanager
def compiling(device: torch.device) -> Iterator[None]:
    """Context in which kernels are compiled in threads; it ends when all are ready to be launched on the device."""
    mode = getattr(triton, "AsyncCompileMode", None)
    if mode is None or _INTERPRETED:
        yield
        return
    _started.clear()
    with ThreadPoolExecutor(_COMPILERS) as pool:
        with mode(pool):
            yield
        if device.type == "cuda":
            list(pool.map(partial(_load, device), _started))
    _started.clear()


def _load(device: torch.device, kernel: Any) -> None:
    """Build what launches a kernel, and bring the kernel to the device."""
    with torch.cuda.device(device):
        _ = (kernel.result() if hasattr(kernel, "result") else kernel).run


def ceil_div(a: int, b: int) -> int:
    """Quotient, rounded up."""
    return -(-a // b)


def power_of_two(n: int) -> int:
    """Smallest power of two that is not below ``n``."""
    return 1 << (n - 1).bit_length()
