"""Batch alignment: cells of one kind should look alike whatever batch they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch

from ._objective import Objective

if TYPE_CHECKING:
    from scgenemamba.nn import Encoded
    from scgenemamba.tokens import CellBatch

_QUEUE = 2048
# Fewer cells say little about the shape of the latent.
_FEWEST = 512
_CLUSTERS = 24
_REFRESH_EVERY, _LLOYD_STEPS = 20, 3
# Cells of a batch in a cluster at which half of what they say is believed.
_HALF_CONFIDENCE = 5.0
# Widths of the kernels, relative to the mean squared distance within clusters.
_WIDTHS = (0.3, 1.0, 3.0)
_TINY = 1e-12


class BatchAlignment(Objective):
    """Conditional maximum mean discrepancy between batches, within clusters of the latent.

    The maximum mean discrepancy (Gretton et al. 2012, JMLR 13:723) compares distributions by mean kernel similarities.
    Over whole batches it would punish that batches differ in composition, and pull a type that only one batch has
    onto another. So it is taken within soft clusters, as Harmony corrects within them (Korsunsky et al. 2019, Nature
    Methods 16:1289): a cell should be no more similar to its own batch than to all batches, among the cells of its
    neighbourhood. Where a neighbourhood has one batch only, there is nothing to be similar to, and no gradient.
    Clusters are soft, though: a type that one batch lacks shares its neighbourhood with the tails of others, and large
    weights pull it towards them.

    The cells of the step are compared with a queue of the cells seen last. The gradient reaches the latent means of the
    cells of the step and through them the encoder; queue, clusters and memberships are constants. Cells of unknown
    batch take no part. No random numbers are drawn, so other objectives are the same with and without this one.

    Parameters
    ----------
    n_latent, n_batch
        Size of the latent and number of batches.
    weight
        Factor of the loss, reached after ``ramp`` cells.
    queue_size
        Cells that are remembered; no more than there are, so that none is there twice.
    n_clusters
        Number of clusters.
    ramp
        Cells over which the factor rises from 0: before, clusters mean little.
    """

    name: ClassVar[str] = "batch alignment"

    latents: torch.Tensor
    batches: torch.Tensor
    centres: torch.Tensor

    def __init__(
        self,
        n_latent: int,
        n_batch: int,
        *,
        weight: float = 40.0,
        queue_size: int = _QUEUE,
        n_clusters: int = _CLUSTERS,
        ramp: int = 20_480,
    ) -> None:
        super().__init__()
        self.n_batch, self.weight, self.ramp = n_batch, weight, ramp
        self.queue_size = min(max(queue_size, 1), _QUEUE)
        self.fewest = min(_FEWEST, self.queue_size)
        self.register_buffer("latents", torch.zeros(self.queue_size, n_latent), persistent=False)
        self.register_buffer("batches", torch.zeros(self.queue_size, dtype=torch.int64), persistent=False)
        self.register_buffer("centres", torch.zeros(min(n_clusters, self.fewest), n_latent), persistent=False)
        self.n_seen = self.n_steps = 0

    def loss(self, batch: CellBatch, encoded: Encoded) -> dict[str, torch.Tensor]:
        """Weighted discrepancy of the cells from the queue, zero until the queue is filled."""
        with torch.autocast(encoded.mean.device.type, enabled=False):
            codes = batch["batch"].squeeze(-1)
            z, codes = encoded.mean[codes >= 0].float(), codes[codes >= 0]
            # of a frozen encoder nothing can be aligned
            learns = self.training and z.requires_grad
            if learns and self.n_seen >= self.fewest:
                if self.n_steps % _REFRESH_EVERY == 0:
                    self._refresh()
                self.n_steps += 1
            value = encoded.mean.sum() * 0.0
            if self.n_steps and len(z):
                value = self.weight * min(self.n_seen / self.ramp, 1.0) * self.discrepancy(z, codes)
            if learns:
                self._remember(z.detach(), codes)
        return {"batch_alignment": value}

    def discrepancy(self, z: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Mean similarity to the own batch less that to all batches, within clusters of the queue.

        Parameters
        ----------
        z
            Latents of cells, float32 ``(n, n_latent)``.
        codes
            Their batches, int64 ``(n,)``.
        """
        queue, of_queue = self._queue()
        with torch.no_grad():
            spread = _squared_distances(queue, self.centres)
            softness = 2 * spread.amin(1).mean().clamp(min=_TINY)
            # memberships of the queue (q, k) and of the cells (n, k)
            members = torch.softmax(-spread / softness, 1)
            of_cells = torch.softmax(-_squared_distances(z, self.centres) / softness, 1)
            width = (members * spread).sum(1).mean().clamp(min=_TINY)
            # cells of each batch in each cluster, (k, b)
            n = members.T @ (of_queue[:, None] == torch.arange(self.n_batch, device=z.device)).float()
            confidence = n / (n + _HALF_CONFIDENCE)
            n = n.clamp(min=1e-3)
            share = confidence / confidence.sum(1, keepdim=True).clamp(min=1e-3)
        distances = _squared_distances(z, queue)
        kernel = torch.stack([torch.exp(-distances / (width * factor)) for factor in _WIDTHS]).sum(0)
        own = (kernel * (codes[:, None] == of_queue)) @ members / n[:, codes].T
        # the mean over batches, as a weight of each cell of the queue
        every = kernel @ (members * (share / n)[:, of_queue].T)
        return (of_cells * confidence[:, codes].T * (own - every)).sum(1).mean()

    def _queue(self) -> tuple[torch.Tensor, torch.Tensor]:
        n_filled = min(self.n_seen, self.queue_size)
        return self.latents[:n_filled], self.batches[:n_filled]

    def _remember(self, z: torch.Tensor, codes: torch.Tensor) -> None:
        z, codes = z[-self.queue_size :], codes[-self.queue_size :]
        places = (torch.arange(len(z), device=z.device) + self.n_seen) % self.queue_size
        # not in place: the gradient still needs the old values
        self.latents = self.latents.index_copy(0, places, z)
        self.batches = self.batches.index_copy(0, places, codes)
        self.n_seen += len(z)

    @torch.no_grad()
    def _refresh(self) -> None:
        """Move the centres by a few steps of k-means, at first from cells evenly spaced in the queue."""
        queue, _ = self._queue()
        centres = self.centres
        if not self.n_steps:
            centres = queue[torch.arange(len(centres), device=queue.device) * len(queue) // len(centres)]
        for _ in range(_LLOYD_STEPS):
            distance, nearest = _squared_distances(queue, centres).min(1)
            member = (nearest[:, None] == torch.arange(len(centres), device=queue.device)).float()
            n = member.sum(0)
            # empty clusters start again at the cells that are farthest from their centres
            farthest = queue[distance.topk(len(centres)).indices]
            again = farthest[((n == 0).cumsum(0) - 1).clamp(min=0)]
            centres = torch.where((n > 0)[:, None], (member.T @ queue) / n.clamp(min=1)[:, None], again)
        self.centres = centres


def _squared_distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.cdist(a, b).square()
