"""Rows of the table of results, and what they were measured on."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

import torch

_PACKAGES = ("scgenemamba", "scvi-tools", "torch", "triton", "mamba-ssm", "causal-conv1d", "transformers")


@dataclass(frozen=True, kw_only=True)
class Result:
    """One measurement.

    Attributes
    ----------
    part, what
        Part of the benchmark, and what of it was measured.
    rival
        Who was measured.
    length
        Tokens per cell.
    width
        ``d_model``, where it varies.
    threads
        CPU threads, where they vary.
    seconds
        Median over the repeats.
    spread
        Slowest minus fastest repeat, relative to the median.
    tokens_per_s, cells_per_s
        At the median.
    peak_bytes
        Most memory in use: parameters, states of the optimiser and what the call added.
    note
        Which back-end ran, or why there are no numbers.
    details
        Numbers that only this measurement has.
    """

    part: str
    what: str
    rival: str
    length: int | None = None
    width: int | None = None
    threads: int | None = None
    seconds: float | None = None
    spread: float | None = None
    tokens_per_s: float | None = None
    cells_per_s: float | None = None
    peak_bytes: int | None = None
    note: str = ""
    details: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        fields = [self.part, self.what, self.rival]
        fields += [f"{name} {value}" for name in ("length", "width", "threads") if (value := getattr(self, name))]
        fields += [f"{value:,.0f} {unit}" for unit, value in self._rates() if value is not None]
        fields += [f"±{100 * self.spread / 2:.1f} %"] if self.spread is not None else []
        fields += [f"{self.peak_bytes / 2**20:,.0f} MiB"] if self.peak_bytes is not None else []
        fields += [f"{name} {value:.4g}" for name, value in self.details.items()]
        return " | ".join([*fields, self.note] if self.note else fields)

    def _rates(self) -> tuple[tuple[str, float | None], ...]:
        return ("tokens/s", self.tokens_per_s), ("cells/s", self.cells_per_s)


#: Takes each row as soon as it is measured.
Report = Callable[[Result], None]


def device_name(device: torch.device) -> str:
    """Name of the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def versions() -> dict[str, str]:
    """Versions of the packages that matter, where they are installed."""
    found = {"python": platform.python_version(), "platform": sys.platform}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
