"""Launching a kernel without asking every time which of its compiled forms is meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import triton

_INTERPRETED = triton.knobs.runtime.interpret
# Releases whose compiled kernels are known to take all arguments in order, constants included; others go Triton's way.
_DIRECT = triton.__version__.split(".")[:2] in (["3", "6"], ["3", "7"]) and not _INTERPRETED
# what Triton assumes of an address if the first one it saw was a multiple
_ALIGNMENT = 16
_COMPILERS = 8

_started: list[Any] = []
_compiled: dict[tuple[object, ...], tuple[Any, tuple[object, ...]]] = {}


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    tensors: tuple[torch.Tensor, ...],
    sizes: tuple[int, ...],
    constants: Mapping[str, object],
) -> None:
    """Launch a kernel on the current device, or only compile it if its tensors are on the meta device.

    The way through Triton takes about 40 microseconds, more than some kernels run; compiled ones are kept here by what
    they were compiled for.

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
    grid = (*grid, 1, 1)[:3]
    if tensors[0].is_meta:
        if not _INTERPRETED:
            _started.append(kernel.warmup(*[t.dtype for t in tensors], *sizes, grid=grid, **constants))
        return
    if not _DIRECT or any(t.data_ptr() % _ALIGNMENT for t in tensors):
        kernel[grid](*tensors, *sizes, **constants)
        return
    key = (id(kernel), tensors[0].device.index, *[t.dtype for t in tensors], *constants.values())
    found = _compiled.get(key)
    if found is None:
        compiled = kernel[grid](*tensors, *sizes, **constants)
        names = kernel.arg_names[len(tensors) + len(sizes) :]
        _compiled[key] = compiled, tuple(constants[name] for name in names)
        return
    compiled, values = found
    compiled[grid](*tensors, *sizes, *values)


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
