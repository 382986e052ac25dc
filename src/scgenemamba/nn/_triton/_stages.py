"""The stages of a layer between its projections, and their gradients: each makes room for its results and launches kernels."""

from __future__ import annotations

import torch

from ._conv import convolve, convolve_gradient
from ._gated_norm import gated_norm, gated_norm_gradient
from ._launch import ceil_div, launch, power_of_two
from ._scan import carry, scan, step_sizes
from ._scan_gradient import map_gradient, value_gradient
from ._shape import Inputs, Scanned, Shape, Steps
from ._walk import Walk

# sums over all rows are taken in about this many parts, then added in a fixed order
_CONV_PARTS, _NORM_PARTS = 64, 1024
# one fixed configuration of each kernel: nobody waits for tuning
_CONV = {"ROWS": 32, "CHANNELS": 128, "num_warps": 4}
_CONV_GRADIENT = {"ROWS": 32, "CHANNELS": 64, "num_warps": 4}
_NORM_ELEMENTS = 2048
# more would not fit the shared memory of small GPUs
_STATE_OF_THREE_STAGES = 64
# bounds that let three and six programs share a multiprocessor of 65,536 registers
_VALUE_REGISTERS, _PIECE_REGISTERS = 168, 80


def _empty(walk: Walk, like: torch.Tensor, *size: int, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Room for values of all rows; what no kernel writes, padding, must be finite."""
    return like.new_zeros(size, dtype=dtype) if walk.padded else like.new_empty(size, dtype=dtype)


def _resources(values: torch.Tensor, registers: int | None = None) -> dict[str, int]:
    """Warps of a program of the scan, and in half precision a bound of its registers; single precision takes more."""
    if values.element_size() > 2:
        return {"num_warps": 8}
    return {"num_warps": 4} if registers is None else {"num_warps": 4, "maxnreg": registers}


def apply_conv(
    projected: torch.Tensor, taps: torch.Tensor, bias: torch.Tensor, shape: Shape, walk: Walk, *, activate: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Convolved ``(directions, t, channels)``, with taps ``(k, channels)``; before SiLU, also B and C behind it."""
    n_directions, n_rows = len(shape.directions), len(projected)
    out = projected.new_empty(n_directions, n_rows, shape.channels)
    maps = projected.new_empty(n_directions, n_rows, 0 if activate else 2 * shape.state)
    launch(
        convolve,
        (ceil_div(n_rows, _CONV["ROWS"]), ceil_div(shape.channels, _CONV["CHANNELS"])),
        (projected, taps, bias, walk.places, out, maps),
        (n_rows,),
        {**shape.convolved, "ACTIVATE": activate, **_CONV},
    )
    return out, maps


def conv_gradient(
    projected: torch.Tensor,
    taps: torch.Tensor,
    d_pre: torch.Tensor,
    d_projected: torch.Tensor,
    shape: Shape,
    walk: Walk,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fill the columns of ``d_projected``; gradients of taps ``(k, channels)`` and bias."""
    n_rows = len(projected)
    each, parts = _parts(n_rows, _CONV_PARTS, _CONV_GRADIENT["ROWS"])
    sums = projected.new_empty(parts, shape.taps + 1, shape.channels, dtype=torch.float32)
    launch(
        convolve_gradient,
        (parts, ceil_div(shape.channels, _CONV_GRADIENT["CHANNELS"])),
        (projected, taps, walk.places, d_pre, d_projected, sums),
        (n_rows, each),
        {**shape.convolved, **_CONV_GRADIENT},
    )
    sums = sums.sum(0)
    return sums[:-1], sums[-1]


def make_steps(projected: torch.Tensor, dt_bias: torch.Tensor, A_log: torch.Tensor, shape: Shape, walk: Walk) -> Steps:
    """Step sizes and decays of all chunks."""
    size = (len(shape.directions), walk.n_chunks, shape.heads, walk.chunk)
    steps = Steps(*projected.new_empty(3, *size, dtype=torch.float32).unbind())
    constants = {"WIDTH": shape.width, "FIRST": shape.inner + shape.channels, "N_HEADS": shape.heads}
    launch(
        step_sizes,
        (walk.n_chunks, len(shape.directions)),
        (projected, dt_bias, A_log, walk.chunks, *steps),
        (walk.n_chunks,),
        {**constants, **shape.directed, "HEADS": power_of_two(shape.heads), "Q": walk.chunk},
    )
    return steps


def run_scan(
    xbc: torch.Tensor, steps: Steps, D: torch.Tensor, shape: Shape, walk: Walk, *, keep_states: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs ``(directions, t, inner)``, and the state that enters each chunk (empty if not kept)."""
    n_directions, n_rows = xbc.shape[:2]
    y = _empty(walk, xbc, n_directions, n_rows, shape.inner)
    states = _room_for_states(xbc, shape, walk) if keep_states else xbc.new_empty(0)
    local = _local_states(xbc, xbc, steps, shape, walk, gradient=False)
    launch(
        scan,
        (shape.heads, walk.n_segments, n_directions),
        (xbc, steps.decay, steps.entry, D, walk.segments, *local, states, y),
        (n_rows, walk.n_pieces, walk.n_chunks),
        {
            "SEGMENT_CHUNKS": walk.segment // walk.chunk,
            "SEGMENT_PIECES": walk.segment // walk.piece,
            "LONG": walk.has_long,
            "STORE_STATES": keep_states,
            **shape.scanned,
            "Q": walk.chunk,
            **_resources(xbc),
            "num_stages": 3 if shape.state <= _STATE_OF_THREE_STAGES else 2,
        },
    )
    return y, states


def scan_gradient(
    pre: torch.Tensor,
    maps: torch.Tensor,
    inputs: Inputs,
    scanned: Scanned,
    d_y: torch.Tensor,
    shape: Shape,
    walk: Walk,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of values before SiLU, of step sizes before softplus ``(directions, heads, t)``, and of A_log, D, dt_bias."""
    steps, states = scanned.steps, scanned.states
    n_directions, n_rows = pre.shape[:2]
    local = _local_states(maps, d_y, steps, shape, walk, gradient=True)
    d_states = _room_for_states(pre, shape, walk)
    _carry(maps, d_y, steps, local, d_states, shape, walk, gradient=True, local_only=False)
    d_pre = _empty(walk, pre, *pre.shape)
    d_raw = _empty(walk, pre, n_directions, shape.heads, n_rows, dtype=torch.float32)
    sums = d_raw.new_empty(3, n_directions, walk.n_chunks, shape.heads)
    sizes, constants = (n_rows, walk.n_chunks), {**shape.scanned, "Q": walk.chunk}
    launch(
        value_gradient,
        (shape.heads, walk.n_chunks, n_directions),
        (
            *(pre, maps, steps.dt, steps.decay, inputs.A_log, inputs.D, walk.chunks),
            *(states, d_states, d_y, d_pre, d_raw, sums),
        ),
        sizes,
        {**constants, **_resources(pre, _VALUE_REGISTERS)},
    )
    launch(
        map_gradient,
        (walk.n_chunks, n_directions),
        (pre, maps, steps.dt, steps.decay, walk.chunks, states, d_states, d_y, d_pre),
        sizes,
        {**constants, **_resources(pre), "num_stages": 2},
    )
    return d_pre, d_raw, sums.sum((1, 2))


def _room_for_states(like: torch.Tensor, shape: Shape, walk: Walk) -> torch.Tensor:
    n_directions = len(shape.directions)
    return like.new_empty(n_directions, walk.n_chunks, shape.heads, shape.state, shape.head_width)


def _local_states(
    read: torch.Tensor, values: torch.Tensor, steps: Steps, shape: Shape, walk: Walk, *, gradient: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """What each piece of long sequences leaves on its own, and its decay; empty if there are none."""
    decay = steps.decay
    if not walk.has_long:
        return decay.new_empty(0), decay.new_empty(0)
    size = (len(shape.directions), walk.n_pieces, shape.heads)
    local = decay.new_empty(*size, shape.state, shape.head_width), decay.new_empty(size)
    _carry(read, values, steps, local, read.new_empty(0), shape, walk, gradient=gradient, local_only=True)
    return local


def _carry(
    read: torch.Tensor,
    values: torch.Tensor,
    steps: Steps,
    local: tuple[torch.Tensor, torch.Tensor],
    states: torch.Tensor,
    shape: Shape,
    walk: Walk,
    *,
    gradient: bool,
    local_only: bool,
) -> None:
    stretches, size = (walk.pieces, walk.piece) if local_only else (walk.segments, walk.segment)
    launch(
        carry,
        (shape.heads, len(stretches), len(shape.directions)),
        (read, values, steps.decay, steps.entry, stretches, *local, states),
        (values.shape[1], walk.n_pieces, walk.n_chunks),
        {
            "SEGMENT_CHUNKS": size // walk.chunk,
            "SEGMENT_PIECES": walk.segment // walk.piece,
            # x, B, C lie side by side going forwards; B and C against it
            "READ_FROM": shape.state if gradient else shape.inner,
            "READ_WIDTH": read.shape[-1],
            "VALUE_WIDTH": values.shape[-1],
            "GRADIENT": gradient,
            "LOCAL": local_only,
            "LONG": walk.has_long,
            **shape.scanned,
            "Q": walk.chunk,
            **_resources(read, _PIECE_REGISTERS if local_only else None),
            "num_stages": 2,
        },
    )


def apply_norm(y: torch.Tensor, projected: torch.Tensor, weight: torch.Tensor, shape: Shape) -> torch.Tensor:
    n_rows = len(projected)
    out = y.new_empty(y.shape if shape.scale_of_sum is None else (n_rows, shape.inner))
    columns = power_of_two(shape.inner)
    rows = max(1, _NORM_ELEMENTS // columns)
    launch(
        gated_norm,
        (ceil_div(n_rows, rows),),
        (y, projected, weight, out),
        (n_rows,),
        {**shape.normalised, "ROWS": rows, "COLUMNS": columns},
    )
    return out


def norm_gradient(
    grad: torch.Tensor,
    y: torch.Tensor,
    projected: torch.Tensor,
    weight: torch.Tensor,
    d_projected: torch.Tensor,
    shape: Shape,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fill the gate's columns of ``d_projected``; gradients of ``y`` and of the weight."""
    n_rows = len(projected)
    d_y = torch.empty_like(y)
    columns = power_of_two(shape.inner)
    rows = max(1, _NORM_ELEMENTS // columns)
    each, parts = _parts(n_rows, _NORM_PARTS, rows)
    d_weight = y.new_empty(parts, shape.inner, dtype=torch.float32)
    launch(
        gated_norm_gradient,
        (parts,),
        (y, projected, weight, grad, d_y, d_projected, d_weight),
        (n_rows, each),
        {**shape.normalised, "ROWS": rows, "COLUMNS": columns},
    )
    return d_y, d_weight.sum(0)


def _parts(n_rows: int, parts: int, rows: int) -> tuple[int, int]:
    """Rows of each of about ``parts`` parts, a multiple of ``rows``, and their true number."""
    each = ceil_div(ceil_div(n_rows, parts), rows) * rows
    return each, ceil_div(n_rows, each)
