"""Which cells have their like in other batches, judged by expression alone."""

from __future__ import annotations

import torch
from torch import nn

# Directions of most variance in which cells are compared.
_DIRECTIONS = 30
# Neighbours of a cell in each batch, as a share of that batch, and their least number.
_SHARE, _FEWEST = 0.03, 3
# Cells of the same batch over which the share of mutual neighbours is averaged.
_SMOOTHING = 15
# Shares of mutual neighbours up to which a cell counts as alone, and from which it counts fully. Types that one batch
# lacks have 0.02 to 0.13 there, others 0.3 to 0.9 (blood cells of two studies).
_ALONE, _TOGETHER = 0.18, 0.35
_LARGEST_DEVIATION = 10.0
_TARGET_SUM = 1e4
_TINY = 1e-8


class Counterparts(nn.Module):
    """Share of each cell's neighbours in other batches that are mutual, by expression.

    Mutual nearest neighbours tell a type that two batches share from one that only one of them has (Haghverdi et al.
    2018, Nature Biotechnology 36:421): a cell without its like elsewhere still has nearest neighbours there, but those
    have nearer ones. Expression is what is compared, not the latent, which the alignment moves: a type that was once
    pulled onto another would look as if it belonged there.

    The first cells seen are the reference. Log-normalised expression of each gene is standardised and projected onto the
    principal components of the reference; a cell's share is that of its nearest cells of the same batch.

    Parameters
    ----------
    n_reference
        Number of cells of the reference.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    directions: torch.Tensor
    profiles: torch.Tensor
    batches: torch.Tensor
    shares: torch.Tensor

    def __init__(self, n_reference: int) -> None:
        super().__init__()
        self.n_reference = n_reference
        self.fitted = False
        for name in ("mean", "scale", "directions", "profiles", "batches", "shares"):
            self.register_buffer(name, torch.empty(0), persistent=False)
        self._collected: list[tuple[torch.Tensor, torch.Tensor]] = []

    def collect(self, expression: torch.Tensor, codes: torch.Tensor) -> None:
        """Add cells to the reference, and fit once it is complete.

        Parameters
        ----------
        expression
            Counts or other non-negative values, float32 ``(n, n_genes)``.
        codes
            Batches of the cells, int64 ``(n,)``.
        """
        self._collected.append((expression, codes))
        if sum(len(codes) for _, codes in self._collected) >= self.n_reference:
            expression, codes = (torch.cat(part)[: self.n_reference] for part in zip(*self._collected, strict=True))
            self._collected = []
            self._fit(expression, codes)

    @torch.no_grad()
    def forward(self, expression: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """How far cells have counterparts: float32 ``(n,)``, from 0, alone in their batch, to 1."""
        distances = torch.cdist(self._profiles(_log_normalised(expression)), self.profiles)
        distances = distances.masked_fill(codes[:, None] != self.batches, float("inf"))
        distances, nearest = distances.topk(min(_SMOOTHING, len(self.batches)), largest=False)
        of_batch = distances.isfinite().float()
        share = (self.shares[nearest] * of_batch).sum(1) / of_batch.sum(1).clamp(min=1)
        t = ((share - _ALONE) / (_TOGETHER - _ALONE)).clamp(0, 1)
        return t.square() * (3 - 2 * t)

    @torch.no_grad()
    def _fit(self, expression: torch.Tensor, codes: torch.Tensor) -> None:
        x = _log_normalised(expression)
        self.mean, self.scale = x.mean(0), x.std(0, correction=0).clamp(min=1e-3)
        x = self._standardised(x)
        # there are fewer cells than genes, as a rule
        variance, vectors = torch.linalg.eigh(x @ x.T)
        variance, vectors = variance[-_DIRECTIONS:], vectors[:, -_DIRECTIONS:]
        self.directions = x.T @ (vectors / variance.clamp(min=_TINY * variance.amax().clamp(min=1)).sqrt())
        self.profiles, self.batches = x @ self.directions, codes
        self.shares = self._mutual_shares()
        self.fitted = True

    def _mutual_shares(self) -> torch.Tensor:
        sizes = torch.bincount(self.batches)
        n_near = (sizes * _SHARE).round().long().clamp(min=_FEWEST).minimum(sizes)
        distances = torch.cdist(self.profiles, self.profiles)
        near = torch.zeros_like(distances, dtype=torch.bool)
        for batch, n in enumerate(n_near.tolist()):
            cells = (self.batches == batch).nonzero().squeeze(1)
            near.scatter_(1, cells[distances[:, cells].topk(n, largest=False).indices], value=True)
        mutual = near & near.T & (self.batches[:, None] != self.batches)
        possible = n_near.sum() - n_near[self.batches]
        return mutual.sum(1) / possible.clamp(min=1)

    def _profiles(self, x: torch.Tensor) -> torch.Tensor:
        return self._standardised(x) @ self.directions

    def _standardised(self, x: torch.Tensor) -> torch.Tensor:
        return ((x - self.mean) / self.scale).clamp(-_LARGEST_DEVIATION, _LARGEST_DEVIATION)


def _log_normalised(expression: torch.Tensor) -> torch.Tensor:
    total = expression.sum(1, keepdim=True).clamp(min=_TINY)
    return torch.log1p(expression / total * _TARGET_SUM)
