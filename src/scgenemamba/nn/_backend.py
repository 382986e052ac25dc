"""The back-end seam: what runs a bidirectional layer between its projections, and which one is taken where."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, cast

import torch

if TYPE_CHECKING:
    from ._config import GeneMambaConfig
    from ._layout import Layout
    from ._mixer import Mamba2Mixer
    from ._norm import RMSNorm


class Backend(Protocol):
    """Runs a layer between ``in_proj`` and ``out_proj``: convolution, scan and gated normalisation.

    Attributes
    ----------
    name
        Name by which it is asked for.
    packs
        Whether it wants all cells of a batch in one packed layout, instead of padded pieces of similar cells.
    replays
        Whether it never waits for the device, so that a forward pass can be recorded as a CUDA graph.
    """

    name: str
    packs: bool
    replays: bool

    def __call__(
        self, projected: torch.Tensor, mixer: Mamba2Mixer, layout: Layout, directions: tuple[bool, ...]
    ) -> tuple[torch.Tensor, ...]:
        """Output of each direction before ``out_proj``.

        Parameters
        ----------
        projected
            Output of ``in_proj``, ``(..., w)`` with the leading axes of the layout.
        mixer
            The parameters.
        layout
            How the tokens lie.
        directions
            For each output, whether the sequences are read from their ends.

        Returns
        -------
        ``(..., d_inner)`` for each direction, in the order in which the tokens lie; values at padding are
        arbitrary but finite.
        """

    def total(
        self,
        projected: torch.Tensor,
        mixer: Mamba2Mixer,
        layout: Layout,
        directions: tuple[bool, ...],
        scale: float = 1.0,
    ) -> torch.Tensor:
        """Sum of the outputs of the directions times ``scale``, ``(..., d_inner)``; parameters as above."""

    def norm(self, x: torch.Tensor, norm: RMSNorm) -> torch.Tensor:
        """Normalised ``(..., d)``, in the type that the projections compute in or that of ``x``."""

    @staticmethod
    def obstacle(device: torch.device | None = None, config: GeneMambaConfig | None = None) -> str | None:
        """What keeps it from running an architecture on a device, and the way out; ``None`` if nothing does.

        What is not given is not asked about.
        """


#: Module and class of each back-end, in the order in which ``"auto"`` prefers them.
_BACKENDS = MappingProxyType(
    {
        "fused": ("._backend_fused", "FusedBackend"),
        "mamba_ssm": ("._backend_mamba_ssm", "MambaSsmBackend"),
        "torch": ("._backend_torch", "TorchBackend"),
    }
)


@dataclass(frozen=True)
class BackendStatus:
    """What :func:`backend_report` says of a back-end.

    Attributes
    ----------
    name
        Its name.
    available
        Whether it runs on the device.
    chosen
        Whether ``backend="auto"`` takes it there.
    reason
        Why it is not available or not chosen; empty for the chosen one.
    """

    name: str
    available: bool
    chosen: bool
    reason: str


def check_backend(name: str) -> None:
    """Refuse a name that cannot be resolved on any device.

    Raises
    ------
    ValueError
        If there is no such back-end.
    ImportError
        If its package is not installed.
    """
    if name == "auto":
        return
    if name not in _BACKENDS:
        msg = f"Unknown backend {name!r}; choose one of {['auto', *_BACKENDS]}."
        raise ValueError(msg)
    obstacle = _load(name).obstacle()
    if obstacle is not None:
        msg = f"Backend {name!r}: {obstacle}"
        raise ImportError(msg)


@cache
def resolve_backend(name: str, device: torch.device, config: GeneMambaConfig | None = None) -> Backend:
    """Choose the back-end; the choice is not part of a model's weights.

    Parameters
    ----------
    name
        ``"auto"`` for the fastest one that runs on the device, or a back-end's name.
    device
        Where the tensors are.
    config
        Architecture that it has to run.

    Raises
    ------
    ValueError
        If there is no such back-end.
    ImportError
        If its package is not installed.
    RuntimeError
        If it does not run the architecture on the device.
    """
    check_backend(name)
    if name == "auto":
        return next(backend for backend in map(_load, _BACKENDS) if backend.obstacle(device, config) is None)
    backend = _load(name)
    obstacle = backend.obstacle(device, config)
    if obstacle is not None:
        msg = f"Backend {name!r} cannot run on {device}: {obstacle}"
        raise RuntimeError(msg)
    return backend


def backend_report(device: torch.device) -> list[BackendStatus]:
    """Say which back-end ``"auto"`` takes on a device, and why not the others."""
    chosen = resolve_backend("auto", device).name
    report = []
    for name in _BACKENDS:
        obstacle = _load(name).obstacle(device)
        reason = obstacle or ("" if name == chosen else f"{chosen} is faster")
        report.append(BackendStatus(name, obstacle is None, name == chosen, reason))
    return report


@cache
def _load(name: str) -> Backend:
    module, class_name = _BACKENDS[name]
    return cast("Backend", getattr(import_module(module, __package__), class_name)())
