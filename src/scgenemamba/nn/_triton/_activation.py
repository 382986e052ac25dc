"""SiLU and its derivative."""

from __future__ import annotations

import triton
import triton.language as tl

_LOG2_E = tl.constexpr(1.4426950408889634)
_INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def sigmoid(x):
    """Logistic function, from the base-2 exponential and the reciprocal that the hardware has."""
    denominator = 1.0 + tl.exp2(-_LOG2_E * x)
    if _INTERPRETED:
        return 1.0 / denominator
    # called impure, or the compiler would compute it anew for each layout that it wants the result in
    return tl.inline_asm_elementwise(
        "rcp.approx.ftz.f32 $0, $1;", "=f,f", [denominator], dtype=tl.float32, is_pure=False, pack=1
    )


@triton.jit
def silu(x):
    """``x sigmoid(x)``."""
    return x * sigmoid(x)


@triton.jit
def silu_gradient(x, gate):
    """Derivative of SiLU, given ``gate = sigmoid(x)``."""
    return gate + x * gate * (1.0 - gate)
