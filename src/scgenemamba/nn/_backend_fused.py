"""The back-end for NVIDIA GPUs: our own Triton kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    pass


class FusedBackend:
    """Triton kernels."""

    name = "fused"
    packs = True

    @staticmethod
    def obstacle(device: torch.device | None) -> str | None:
        """Not usable yet."""
        return "its kernels are not part of this version."
