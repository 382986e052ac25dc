"""The back-end seam: what runs a bidirectional layer between its projections."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ._backend_torch import TorchBackend

if TYPE_CHECKING:
    import torch

    from ._layout import Layout
    from ._mixer import Mamba2Mixer


class Backend(Protocol):
    """Runs both directions of a layer between ``in_proj`` and ``out_proj``."""

    @property
    def name(self) -> str:
        """Name under which :func:`resolve_backend` knows it."""

    def __call__(
        self, projected: torch.Tensor, mixer: Mamba2Mixer, layout: Layout
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Convolution, scan and gated normalisation, in both directions.

        Parameters
        ----------
        projected
            Output of ``in_proj``, ``(..., w)`` with the leading axes of the layout.
        mixer
            The parameters.
        layout
            How the tokens lie.

        Returns
        -------
        Outputs of the forward and of the backward direction before ``out_proj``, both in the original order
        of the tokens, ``(..., d_inner)``; values at padding are arbitrary but finite.
        """


_BACKENDS: dict[str, Callable[[], Backend]] = {"torch": TorchBackend}


def resolve_backend(name: str = "auto") -> Backend:
    """Choose the back-end; the choice is not part of a model's weights.

    Parameters
    ----------
    name
        ``"auto"`` for the best one available, or a back-end's name.

    Raises
    ------
    ValueError
        If there is no such back-end.
    """
    if name == "auto":
        name = "torch"
    if name not in _BACKENDS:
        msg = f"Unknown backend {name!r}; choose one of {['auto', *_BACKENDS]}."
        raise ValueError(msg)
    return _BACKENDS[name]()
