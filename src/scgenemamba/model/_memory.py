"""What training needs of memory, and what is done to make it fit."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from scgenemamba._logging import logger
from scgenemamba.nn import BiMambaEncoder, resolve_backend

from ._scale import warn

DEFAULT_BATCH_SIZE = 128
#: The way out for one whose training does not fit.
SMALLER_TRAINING = (
    "Use `batch_size='auto'`, a smaller `batch_size`, or a smaller `preset` or `max_tokens` of the model."
)
# Weights, their gradients, two moments of AdamW, and the parts of a gradient before they are summed.
_COPIES_OF_PARAMETERS = 6
# Beyond what a layer keeps, its backward pass needs about as much again while it runs (measured: 0.9 to 1.1).
_WORKING_SET = 1.1
# The rest is for fragments, the loader and the heads.
_USABLE = 0.85
_PROBE_LENGTHS = (256, 240)


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that a training step needs.

    Attributes
    ----------
    fixed
        Whatever the batch: parameters, gradients, state of the optimiser.
    ends
        Kept for the gradient of each token by what lies around the layers.
    layer
        Kept for the gradient of each token by a layer.
    layer_input
        Of these, what is left where a layer is computed again.
    n_layers
        Number of layers.
    tokens_at_once
        Tokens that run through a layer together.
    """

    fixed: float
    ends: float
    layer: float
    layer_input: float
    n_layers: int
    tokens_at_once: float

    def __call__(self, n_tokens: float, *, recompute: bool) -> float:
        """Bytes that a batch of so many tokens needs at most at a time."""
        at_once = min(n_tokens, self.tokens_at_once) * self.layer
        kept, running = (self.layer_input, at_once) if recompute else (self.layer, 0.0)
        return self.fixed + n_tokens * (self.ends + self.n_layers * kept) + running + _WORKING_SET * at_once


@dataclass(frozen=True)
class MemoryPlan:
    """How a training step is made to fit.

    Attributes
    ----------
    batch_size
        Cells per step.
    recompute
        Whether layers are computed again for their gradient.
    needed
        Bytes that the step needs then.
    fits
        Whether there is so much.
    """

    batch_size: int
    recompute: bool
    needed: float
    fits: bool


def measure_training(encoder: BiMambaEncoder, n_parameters: int, device: torch.device) -> TrainingMemory:
    """Measure what training needs per token, on a copy of one and two layers that reads two short cells.

    Measured and not computed, so that it holds for every back-end, fusion and type.

    Parameters
    ----------
    encoder
        The encoder that is to be trained.
    n_parameters
        Parameters of the whole model.
    device
        Where it will be trained.
    """
    one, two = (_kept_per_token(encoder, n_layers, device) for n_layers in (1, 2))
    packs = resolve_backend(encoder.backend, device).packs
    return TrainingMemory(
        fixed=4.0 * _COPIES_OF_PARAMETERS * n_parameters,
        ends=max(2 * one - two, 0.0),
        layer=two - one,
        layer_input=4.0 * encoder.config.d_model,
        n_layers=encoder.config.n_layers,
        tokens_at_once=math.inf if packs else encoder.tokens_of_a_piece(device),
    )


def _kept_per_token(encoder: BiMambaEncoder, n_layers: int, device: torch.device) -> float:
    config = replace(encoder.config, n_layers=n_layers, n_tokens=1)
    with torch.random.fork_rng(devices=[]):
        small = BiMambaEncoder(config, encoder.backend).to(device)
    bounds = torch.tensor([0, *_PROBE_LENGTHS], device=device).cumsum(0)
    n_tokens = int(bounds[-1])
    parameters = {p.untyped_storage().data_ptr() for p in small.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    half = torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), half:
        # held until the count is done: a freed tensor's place would be taken by the next
        _hidden = small(torch.zeros(n_tokens, dtype=torch.int64, device=device), bounds)
        return sum(kept.values()) / n_tokens


def tokens_of_batch(lengths: npt.NDArray[np.integer], batch_size: int) -> float:
    """Tokens that a random batch has at most, but for one in a thousand; ``lengths`` are those of some cells."""
    expected = lengths.mean() * batch_size + 3 * lengths.std() * batch_size**0.5
    return float(min(expected, lengths.max() * batch_size))


def plan_training(
    memory: TrainingMemory,
    lengths: npt.NDArray[np.integer],
    batch_size: int | Literal["auto"],
    available: float,
) -> MemoryPlan:
    """Choose the batch size, if it is ``"auto"``, and whether layers are computed again.

    Parameters
    ----------
    memory
        Needs of the model.
    lengths
        Tokens of some cells, as the model reads them.
    batch_size
        Cells per step; ``"auto"`` takes the largest power of two that fits, at most 128.
    available
        Bytes that are free.
    """

    def plan(size: int, recompute: bool) -> MemoryPlan:
        needed = memory(tokens_of_batch(lengths, size), recompute=recompute)
        return MemoryPlan(size, recompute, needed, needed <= _USABLE * available)

    largest = DEFAULT_BATCH_SIZE if batch_size == "auto" else batch_size
    smallest = 1 if batch_size == "auto" else largest
    while True:
        # computing twice costs a third of the time, but changes no result
        for recompute in (False, True):
            chosen = plan(largest, recompute)
            if chosen.fits:
                return chosen
        if largest <= smallest:
            return chosen
        largest //= 2


def fit_training(
    encoder: BiMambaEncoder,
    n_parameters: int,
    lengths: npt.NDArray[np.integer],
    batch_size: int | Literal["auto"],
    device: torch.device,
) -> int:
    """Make training fit into the memory of a device, and tell the user what was done.

    Sets ``encoder.recompute``. What cannot fit is warned of and not refused: the estimate may be too high.

    Returns
    -------
    Cells per step.
    """
    memory = measure_training(encoder, n_parameters, device)
    available = available_bytes(device)
    plan = plan_training(memory, lengths, batch_size, available)
    encoder.recompute = plan.recompute
    free = f"{_gb(available)} are free on {device}"
    if not plan.fits:
        needs = f"Training with batch_size={plan.batch_size} needs about {_gb(plan.needed)}"
        warn(f"{needs}, but {free}: it may run out of memory. {SMALLER_TRAINING}")
    elif batch_size == "auto" and plan.batch_size < DEFAULT_BATCH_SIZE:
        whole = memory(tokens_of_batch(lengths, DEFAULT_BATCH_SIZE), recompute=True)
        logger.info(f"Batches of {plan.batch_size} cells: {DEFAULT_BATCH_SIZE} need {_gb(whole)}, and {free}.")
    if plan.recompute:
        logger.info("Layers are computed twice, which is slower by about a third: their results do not fit in memory.")
    return plan.batch_size


def available_bytes(device: torch.device) -> float:
    """Free memory of a device; infinite if it cannot be told."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return _free_ram()


def _free_ram() -> float:
    info = Path("/proc/meminfo")
    if info.exists():
        values = dict(line.split(":", 1) for line in info.read_text().splitlines())
        return 1024.0 * int(values["MemAvailable"].split()[0])
    # elsewhere than on Linux the standard library knows no more than what is built in, and on Windows not that
    if hasattr(os, "sysconf"):
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return math.inf


@contextmanager
def out_of_memory_advice(work: str, way_out: str) -> Iterator[None]:
    """Add to an out-of-memory error what ran out of memory, and what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        cuda = isinstance(error, torch.cuda.OutOfMemoryError)
        if not cuda and not isinstance(error, MemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        msg = f"{work} ran out of memory. {way_out}\n{error}"
        raise (torch.cuda.OutOfMemoryError if cuda else MemoryError)(msg) from error


def _gb(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB"
