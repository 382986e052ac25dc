"""The kernels put together: all directions of a layer between its projections, with their gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from ._launch import compiling
from ._shape import Inputs, Scanned, Shape, Steps
from ._stages import (
    apply_conv,
    apply_norm,
    conv_gradient,
    make_steps,
    norm_gradient,
    run_scan,
    scan_gradient,
)
from ._walk import Walk


def run(inputs: Inputs, shape: Shape, walk: Walk) -> torch.Tensor:
    """Convolution, scan and gated normalisation: ``(t, inner)`` if summed, else ``(directions, t, inner)``."""
    with_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
    _compile_together(inputs, shape, walk, with_gradient=with_gradient)
    if with_gradient:
        return _Directions.apply(*inputs, shape, walk)
    return _forward(inputs, shape, walk, keep_states=False)[0]


def _forward(inputs: Inputs, shape: Shape, walk: Walk, *, keep_states: bool) -> tuple[torch.Tensor, Scanned]:
    projected = inputs.projected
    taps = inputs.taps[:, 0].mT.contiguous()
    xbc, _ = apply_conv(projected, taps, inputs.bias, shape, walk, activate=True)
    steps = make_steps(projected, inputs.dt_bias, inputs.A_log, shape, walk)
    y, states = run_scan(xbc, steps, inputs.D, shape, walk, keep_states=keep_states)
    return apply_norm(y, projected, inputs.norm_weight, shape), Scanned(taps, steps, y, states)


def _backward(grad: torch.Tensor, inputs: Inputs, scanned: Scanned, shape: Shape, walk: Walk) -> Inputs:
    """Gradients of the inputs."""
    projected, taps = inputs.projected, scanned.taps
    d_projected = torch.empty_like(projected)
    d_y, d_norm_weight = norm_gradient(grad, scanned.y, projected, inputs.norm_weight, d_projected, shape)
    pre, maps = apply_conv(projected, taps, inputs.bias, shape, walk, activate=False)
    d_pre, d_raw, (d_A_log, d_D, d_dt_bias) = scan_gradient(pre, maps, inputs, scanned, d_y, shape, walk)
    d_taps, d_bias = conv_gradient(projected, taps, d_pre, d_projected, shape, walk)
    # both directions at once, in half precision where it is written
    first, *second = d_raw.mT
    torch.add(first, second[0] if second else 0.0, out=d_projected[:, -shape.heads :])
    d_taps = d_taps.mT.reshape(inputs.taps.shape)
    gradients = Inputs(d_projected, d_taps, d_bias, d_dt_bias, d_A_log, d_D, d_norm_weight)
    return Inputs(*[d.to(t.dtype) for d, t in zip(gradients, inputs, strict=True)])


class _Directions(torch.autograd.Function):
    """Keeps the projections, the outputs of the scan and the states between chunks; convolves again."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> torch.Tensor:
        *inputs, ctx.shape, ctx.walk = arguments
        out, scanned = _forward(Inputs(*inputs), ctx.shape, ctx.walk, keep_states=True)
        ctx.save_for_backward(*inputs, scanned.taps, *scanned.steps, scanned.y, scanned.states)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        *inputs, taps, dt, decay, entry, y, states = ctx.saved_tensors
        scanned = Scanned(taps, Steps(dt, decay, entry), y, states)
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
