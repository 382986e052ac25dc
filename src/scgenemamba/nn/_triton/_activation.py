"""SiLU and its derivative."""

from __future__ import annotations

import triton
import triton.language as tl

_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def sigmoid(x):
    """Logistic function; the base-2 exponential is the one that the hardware has."""
    return 1.0 / (1.0 + tl.exp2(-_LOG2_E * x))


@triton.jit
def silu(x):
    """``x sigmoid(x)``."""
    return x * sigmoid(x)


@triton.jit
def silu_gradient(x):
    """Derivative of SiLU."""
    g = sigmoid(x)
    return g * (1.0 + x * (1.0 - g))
