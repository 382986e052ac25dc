"""What is installed, and what the model runs on here."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_PACKAGES = (
    "scgenemamba",
    "torch",
    "scvi-tools",
    "anndata",
    "scanpy",
    "lightning",
    "numba",
    "triton",
    "mamba-ssm",
    "causal-conv1d",
)


def run_info() -> None:
    """Print versions, devices, and the back-end taken on each kind of device, with the reason against the others."""
    import torch

    from scgenemamba.nn import backend_report

    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    devices = [torch.device("cpu"), *(torch.device("cuda", i) for i in range(n_gpus))]
    lines = ["Versions", *_table(_versions(torch.version.cuda))]
    lines += ["", "Devices", *_table((str(device), _describe(device)) for device in devices)]
    for device in devices[:2]:
        lines += ["", f"Back-ends on {device}"]
        lines += _table((s.name, "chosen" if s.chosen else f"not chosen: {s.reason}") for s in backend_report(device))
    sys.stdout.write("\n".join(lines) + "\n")


def _versions(cuda: str | None) -> list[tuple[str, str]]:
    found = [("Python", f"{platform.python_version()} on {platform.platform()}")]
    for package in _PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            found.append((package, "not installed"))
    return [*found, ("CUDA of torch", cuda or "none")]


def _describe(device: torch.device) -> str:
    import torch

    if device.type == "cpu":
        return f"{torch.get_num_threads()} threads"
    properties = torch.cuda.get_device_properties(device)
    return (
        f"{properties.name}, {properties.total_memory / 1e9:.0f} GB, capability {properties.major}.{properties.minor}"
    )


def _table(rows: Iterable[tuple[str, str]]) -> list[str]:
    return [f"  {name:<15} {value}" for name, value in rows]
