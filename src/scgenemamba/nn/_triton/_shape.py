"""What the kernels of a layer are told, and what they pass on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch


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
    precision
        How tensor cores multiply numbers of single precision: ``"tf32x3"``, as exact as they are, or ``"tf32"``.
    """

    heads: int
    head_width: int
    state: int
    taps: int
    directions: tuple[bool, ...]
    scale_of_sum: float | None
    eps: float
    precision: str

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
        sizes = {"N_HEADS": self.heads, "N": self.state, "P": self.head_width}
        return {**sizes, "PRECISION": self.precision, **self.directed}

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
    """What the gradient needs of the forward pass: taps ``(k, channels)``, steps, outputs of the scan, states between chunks."""

    taps: torch.Tensor
    steps: Steps
    y: torch.Tensor
    states: torch.Tensor
