"""Batch alignment: cells of one kind should look alike whatever batch they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch

from ._counterparts import Counterparts
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
    A neighbourhood has tails of other types, though, to which a type that one batch lacks would be pulled. So a cell
    takes part only as far as its expression has counterparts in other batches, see ``Counterparts``.

    The first cells of the training are the reference that counterparts are looked for in; from then on, the cells of the
    step are compared with a queue of the cells seen last. The gradient reaches the latent means of the cells of the step
    and through them the encoder; queue, clusters and memberships are constants. Cells of unknown batch take no part. No
    random numbers are drawn, so other objectives are the same with and without this one.

    Parameters
    ----------
    n_latent, n_genes, n_batch
        Sizes of the latent and of the decoder's gene set, by which counterparts are found, and number of batches.
    weight
        Factor of the loss, reached after ``ramp`` cells.
    queue_size
        Cells that are remembered, and cells of the reference; no more than there are, lest cells be there twice.
    n_clusters
        Number of clusters.
    ramp
        Cells over which the factor rises from 0: before, clusters mean little.
    """

    name: ClassVar[str] = "batch alignment"

    latents: torch.Tensor
    batches: torch.Tensor
    togetherness: torch.Tensor
    centres: torch.Tensor

    def __init__(
        self,
        n_latent: int,
        n_genes: int,
        n_batch: int,
        *,
        weight: float = 50.0,
        queue_size: int = _QUEUE,
        n_clusters: int = _CLUSTERS,
        ramp: int = 20_480,
    ) -> None:
        super().__init__()
        self.n_genes, self.n_batch, self.weight, self.ramp = n_genes, n_batch, weight, ramp
        self.queue_size = min(max(queue_size, 1), _QUEUE)
        self.fewest = min(_FEWEST, self.queue_size)
        self.register_buffer("latents", torch.zeros(self.queue_size, n_latent), persistent=False)
        self.register_buffer("batches", torch.zeros(self.queue_size, dtype=torch.int64), persistent=False)
        self.register_buffer("togetherness", torch.zeros(self.queue_size), persistent=False)
        self.register_buffer("centres", torch.zeros(min(n_clusters, self.fewest), n_latent), persistent=False)
        self.counterparts = Counterparts(self.queue_size)
        self.n_seen = self.n_steps = 0

    def loss(self, batch: CellBatch, encoded: Encoded) -> dict[str, torch.Tensor]:
        """Weighted discrepancy of the cells from the queue, zero until reference and queue are filled."""
        with torch.autocast(encoded.mean.device.type, enabled=False):
            codes = batch["batch"].squeeze(-1)
            known = codes >= 0
            z, codes, expression = encoded.mean[known].float(), codes[known], batch["expression"][known, : self.n_genes]
            # of a frozen encoder nothing can be aligned
            learns = self.training and z.requires_grad
            value = encoded.mean.sum() * 0.0
            if self.counterparts.fitted:
                value = value + self._compared(z, codes, self.counterparts(expression, codes), learns)
            elif learns:
                self.counterparts.collect(expression, codes)
        return {"batch_alignment": value}

    def _compared(self, z: torch.Tensor, codes: torch.Tensor, together: torch.Tensor, learns: bool) -> torch.Tensor:
        if learns and self.n_seen >= self.fewest:
            if self.n_steps % _REFRESH_EVERY == 0:
                self._refresh()
            self.n_steps += 1
        value = z.new_zeros(())
        if self.n_steps and len(z):
            value = self.weight * min(self.n_seen / self.ramp, 1.0) * self.discrepancy(z, codes, together)
        if learns:
            self._remember(z.detach(), codes, together)
        return value

    def discrepancy(self, z: torch.Tensor, codes: torch.Tensor, together: torch.Tensor) -> torch.Tensor:
        """Mean similarity to the own batch less that to all batches, within clusters of the queue.

        Parameters
        ----------
        z
            Latents of cells, float32 ``(n, n_latent)``.
        codes
            Their batches, int64 ``(n,)``.
        together
            How far they have counterparts, float32 ``(n,)`` from 0 to 1.
        """
        queue, of_queue, counts = self._queue()
        with torch.no_grad():
            spread = _squared_distances(queue, self.centres)
            softness = 2 * spread.amin(1).mean().clamp(min=_TINY)
            # memberships of the queue (q, k) and of the cells (n, k), as far as they take part
            members = torch.softmax(-spread / softness, 1)
            of_cells = together[:, None] * torch.softmax(-_squared_distances(z, self.centres) / softness, 1)
            width = (members * spread).sum(1).mean().clamp(min=_TINY)
            members = counts[:, None] * members
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

    def _queue(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        filled = slice(min(self.n_seen, self.queue_size))
        return self.latents[filled], self.batches[filled], self.togetherness[filled]

    def _remember(self, z: torch.Tensor, codes: torch.Tensor, together: torch.Tensor) -> None:
        z, codes, together = (part[-self.queue_size :] for part in (z, codes, together))
        places = (torch.arange(len(z), device=z.device) + self.n_seen) % self.queue_size
        # not in place: the gradient still needs the old values
        self.latents = self.latents.index_copy(0, places, z)
        self.batches = self.batches.index_copy(0, places, codes)
        self.togetherness = self.togetherness.index_copy(0, places, together)
        self.n_seen += len(z)

    @torch.no_grad()
    def _refresh(self) -> None:
        """Move the centres by a few steps of k-means, at first from cells evenly spaced in the queue."""
        queue = self._queue()[0]
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
