"""The kernels put together: all directions of a layer between its projections, with their gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from ._conv import convolve, convolve_gradient
from ._gated_norm import gated_norm, gated_norm_gradient
from ._launch import ceil_div, compiling, launch, power_of_two
from ._scan import carry, scan, step_sizes
from ._scan_gradient import map_gradient, value_gradient
from ._walk import Walk

# sums over all rows are taken in this many parts, then added in a fixed order
_PARTS = 256
# one fixed configuration of each kernel: nobody waits for tuning
_CONV = {"ROWS": 64, "CHANNELS": 64, "num_warps": 4}
_CONV_GRADIENT = {"ROWS": 32, "CHANNELS": 32, "num_warps": 4}
_NORM_ELEMENTS = 2048
_SCAN = {"num_warps": 4, "num_stages": 2}
_CARRY = {"num_warps": 4, "num_stages": 2}
_VALUE_GRADIENT = {"num_warps": 4, "num_stages": 1}
_MAP_GRADIENT = {"num_warps": 4, "num_stages": 2}


@dataclass(frozen=True)
class Shape:
    """Sizes of a layer, and which directions it reads.

    Attributes
    ----------
    heads, head_width, state
        Heads, channels of a head, and size of the state.
    taps
        Width of the convolution.
    directions
        For each output, whether the sequences are read from their ends: any of the two, or first forwards and then
        backwards.
    scale_of_sum
        Factor of the outputs' sum, ``None`` if they are not summed.
    eps
        Added to the mean square by the normalisation.
    """

    heads: int
    head_width: int
    state: int
    taps: int
    directions: tuple[bool, ...]
    scale_of_sum: float | None
    eps: float

    @property
    def inner(self) -> int:
        """Width of the outputs."""
        return self.heads * self.head_width

    @property
    def channels(self) -> int:
        """Channels that are convolved: x, B and C."""
        return self.inner + 2 * self.state

    @property
    def width(self) -> int:
        """Columns of the projections: gate, channels, step sizes."""
        return self.inner + self.channels + self.heads

    @cached_property
    def directed(self) -> dict[str, object]:
        """Constants of all kernels that read sequences."""
        return {"FIRST_REVERSE": int(self.directions[0])}

    @cached_property
    def convolved(self) -> dict[str, object]:
        """Constants of the convolution."""
        sizes = {"WIDTH": self.width, "FIRST": self.inner, "N_CHANNELS": self.channels, "K": self.taps}
        return {**sizes, "N_DIRECTIONS": len(self.directions), **self.directed}

    @cached_property
    def scanned(self) -> dict[str, object]:
        """Constants of the scan."""
        return {"N_HEADS": self.heads, "N": self.state, "P": self.head_width, **self.directed}

    @cached_property
    def normalised(self) -> dict[str, object]:
        """Constants of the gated norm."""
        sizes = {"STRIDE": self.width, "WIDTH": self.inner, "EPS": self.eps}
        summed = self.scale_of_sum is not None
        return {**sizes, "N_DIRECTIONS": len(self.directions), "SUMMED": summed, "SCALE": self.scale_of_sum or 1.0}


class Steps(NamedTuple):
    """Step sizes and decays as :func:`step_sizes` makes them, ``(directions, chunks, heads, chunk)`` each."""

    dt: torch.Tensor
    decay: torch.Tensor
    entry: torch.Tensor


class Inputs(NamedTuple):
    """What a layer's directions are made of.

    Attributes
    ----------
    projected
        Output of ``in_proj``, ``(t, width)``.
    taps, bias
        Of the convolution, ``(channels, 1, k)`` and ``(channels,)``.
    dt_bias, A_log, D
        Of the scan, ``(heads,)`` each.
    norm_weight
        ``(inner,)``
    """

    projected: torch.Tensor
    taps: torch.Tensor
    bias: torch.Tensor
    dt_bias: torch.Tensor
    A_log: torch.Tensor
    D: torch.Tensor
    norm_weight: torch.Tensor


class Scanned(NamedTuple):
    """What the gradient needs of the forward pass: steps, outputs of the scan, and states between chunks."""

    steps: Steps
    y: torch.Tensor
    states: torch.Tensor


def run(inputs: Inputs, shape: Shape, walk: Walk) -> torch.Tensor:
    """Convolution, scan and gated normalisation: ``(t, inner)`` if summed, else ``(directions, t, inner)``."""
    with_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
    _compile_together(inputs, shape, walk, with_gradient=with_gradient)
    if with_gradient:
        return _Directions.apply(*inputs, shape, walk)
    return _forward(inputs, shape, walk, keep_states=False)[0]


def _forward(inputs: Inputs, shape: Shape, walk: Walk, *, keep_states: bool) -> tuple[torch.Tensor, Scanned]:
    projected = inputs.projected
    xbc, _ = _convolve(projected, inputs.taps[:, 0].mT.contiguous(), inputs.bias, shape, walk, activate=True)
    steps = _step_sizes(projected, inputs.dt_bias, inputs.A_log, shape, walk)
    y, states = _scan(xbc, steps, inputs.D, shape, walk, keep_states=keep_states)
    return _gated_norm(y, projected, inputs.norm_weight, shape), Scanned(steps, y, states)


def _backward(grad: torch.Tensor, inputs: Inputs, scanned: Scanned, shape: Shape, walk: Walk) -> Inputs:
    """Gradients of the inputs."""
    projected, taps = inputs.projected, inputs.taps[:, 0].mT.contiguous()
    d_projected = torch.empty_like(projected)
    d_y, d_norm_weight = _gated_norm_gradient(grad, scanned.y, projected, inputs.norm_weight, d_projected, shape)
    pre, maps = _convolve(projected, taps, inputs.bias, shape, walk, activate=False)
    d_pre, d_raw, (d_A_log, d_D) = _scan_gradient(pre, maps, inputs, scanned, d_y, shape, walk)
    d_taps, d_bias = _convolve_gradient(projected, taps, d_pre, d_projected, shape, walk)
    d_projected[:, -shape.heads :] = d_raw.mT
    d_taps = d_taps.mT.reshape(inputs.taps.shape)
    gradients = Inputs(d_projected, d_taps, d_bias, d_raw.sum(1), d_A_log, d_D, d_norm_weight)
    return Inputs(*[d.to(t.dtype) for d, t in zip(gradients, inputs, strict=True)])


class _Directions(torch.autograd.Function):
    """Keeps the projections, the outputs of the scan and the states between chunks; convolves again."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> torch.Tensor:
        *inputs, ctx.shape, ctx.walk = arguments
        out, scanned = _forward(Inputs(*inputs), ctx.shape, ctx.walk, keep_states=True)
        ctx.save_for_backward(*inputs, *scanned.steps, scanned.y, scanned.states)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        *inputs, dt, decay, entry, y, states = ctx.saved_tensors
        scanned = Scanned(Steps(dt, decay, entry), y, states)
        return (*_backward(grad.contiguous(), Inputs(*inputs), scanned, ctx.shape, ctx.walk), None, None)


_compiled: set[tuple[object, ...]] = set()


def _compile_together(inputs: Inputs, shape: Shape, walk: Walk, *, with_gradient: bool) -> None:
    """Compile all kernels of a layer at the same time, before the first of them is needed."""
    kind = (shape, walk.chunk, walk.has_long, with_gradient, inputs[0].device, *[t.dtype for t in inputs])
    if kind in _compiled:
        return
    _compiled.add(kind)
    walk = replace(walk, starts=walk.starts.to("meta"), lengths=walk.lengths.to("meta"))
    stand_ins = Inputs(*[torch.empty_like(t, device="meta") for t in inputs])
    with torch.no_grad(), compiling(inputs.projected.device):
        out, scanned = _forward(stand_ins, shape, walk, keep_states=with_gradient)
        if with_gradient:
            _backward(out, stand_ins, scanned, shape, walk)


def _empty(walk: Walk, like: torch.Tensor, *size: int, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Room for values of all rows; what no kernel writes, padding, must be finite."""
    return like.new_zeros(size, dtype=dtype) if walk.padded else like.new_empty(size, dtype=dtype)


def _convolve(
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


def _convolve_gradient(
    projected: torch.Tensor,
    taps: torch.Tensor,
    d_pre: torch.Tensor,
    d_projected: torch.Tensor,
    shape: Shape,
    walk: Walk,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fill the columns of ``d_projected``; gradients of taps ``(k, channels)`` and bias."""
    n_rows = len(projected)
    each, parts = _parts(n_rows, _PARTS, _CONV_GRADIENT["ROWS"])
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


def _step_sizes(projected: torch.Tensor, dt_bias: torch.Tensor, A_log: torch.Tensor, shape: Shape, walk: Walk) -> Steps:
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


def _scan(
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
            **_SCAN,
        },
    )
    return y, states


def _scan_gradient(
    pre: torch.Tensor,
    maps: torch.Tensor,
    inputs: Inputs,
    scanned: Scanned,
    d_y: torch.Tensor,
    shape: Shape,
    walk: Walk,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of values before SiLU, of step sizes before softplus ``(heads, t)``, and of A_log and D."""
    steps, _, states = scanned
    n_directions, n_rows = pre.shape[:2]
    local = _local_states(maps, d_y, steps, shape, walk, gradient=True)
    d_states = _room_for_states(pre, shape, walk)
    _carry(maps, d_y, steps, local, d_states, shape, walk, gradient=True, local_only=False)
    d_pre = _empty(walk, pre, *pre.shape)
    d_raw = _empty(walk, pre, n_directions, shape.heads, n_rows, dtype=torch.float32)
    # entries behind the last chunk stay zero
    sums = d_raw.new_zeros(2, n_directions, walk.n_chunks, shape.heads)
    sizes, constants = (n_rows, walk.n_chunks), {**shape.scanned, "Q": walk.chunk}
    launch(
        value_gradient,
        (shape.heads, walk.n_chunks, n_directions),
        (
            *(pre, maps, steps.dt, steps.decay, inputs.A_log, inputs.D, walk.chunks),
            *(states, d_states, d_y, d_pre, d_raw, sums),
        ),
        sizes,
        {**constants, **_VALUE_GRADIENT},
    )
    launch(
        map_gradient,
        (walk.n_chunks, n_directions),
        (pre, maps, steps.dt, steps.decay, walk.chunks, states, d_states, d_y, d_pre),
        sizes,
        {**constants, **_MAP_GRADIENT},
    )
    return d_pre, d_raw.sum(0), sums.sum((1, 2))


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
            **_CARRY,
        },
    )


def _gated_norm(y: torch.Tensor, projected: torch.Tensor, weight: torch.Tensor, shape: Shape) -> torch.Tensor:
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


def _gated_norm_gradient(
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
    each, parts = _parts(n_rows, 4 * _PARTS, rows)
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
