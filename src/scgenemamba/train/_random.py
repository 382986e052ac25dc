"""Random numbers that belong to a cell, not to the batch that it happens to be in."""

from __future__ import annotations

from dataclasses import dataclass

import torch

# Odd 64-bit constants of the splitmix64 generator (as signed integers); products wrap around.
_GOLDEN = -7046029254386353131
_MIX_1 = -4658895280553007687
_MIX_2 = -7723592293110705685


@dataclass(frozen=True)
class CellRandom:
    """Counter-based uniform numbers keyed by seed, epoch, cell and position.

    The same cell gets the same numbers in an epoch whatever its batch mates, the order of batches, the
    number of workers or the device.
    """

    seed: int
    epoch: int

    def uniform(self, cell: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """Uniform numbers in ``[0, 1)``.

        Parameters
        ----------
        cell, position
            int64 of one shape, for example ``(t,)``.

        Returns
        -------
        float32 of that shape.
        """
        state = torch.full_like(cell, self.seed)
        for key in (torch.full_like(cell, self.epoch), cell, position):
            state = _mix(state + key * _GOLDEN + 1)
        return _logical_shift(state, 40).to(torch.float32) * 2.0**-24


def _mix(x: torch.Tensor) -> torch.Tensor:
    x = (x ^ _logical_shift(x, 30)) * _MIX_1
    x = (x ^ _logical_shift(x, 27)) * _MIX_2
    return x ^ _logical_shift(x, 31)


def _logical_shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)
