"""What is known of a hidden gene without reading the cell: the losses that a model has to beat."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch

from scgenemamba.nn import cell_of_token, truncate

if TYPE_CHECKING:
    from scgenemamba.tokens import CellBatch

# positions of a gene are spread by at least this share of a cell's length
_LEAST_DEVIATION = 0.02
_UNSEEN = 0.5
_ROWS = 512


class RankBaselines:
    """Guesses hidden genes from how often genes occur, and from where in the ranking each usually stands.

    ``unigram`` is the share of cells that express a gene. ``mean_rank`` multiplies it by a normal density of the hidden gene's place, as
    a share of the cell's length, around the gene's mean place with its standard deviation. Both know which genes the cell shows,
    and that no gene occurs twice.

    Parameters
    ----------
    n_tokens
        Size of the vocabulary.
    max_tokens
        Genes of a cell that are read.
    """

    def __init__(self, n_tokens: int, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self._sums = torch.zeros(3, n_tokens, dtype=torch.float64)

    def fit(self, batches: Iterable[CellBatch]) -> RankBaselines:
        """Learn from cells of the training."""
        for batch in batches:
            tokens, place = self._places(*truncate(batch["tokens"], batch["cu_seqlens"], self.max_tokens))
            for power, sums in enumerate(self._sums):
                sums.index_add_(0, tokens, place.double() ** power)
        return self

    def losses(self, batches: Iterable[CellBatch], mask: Callable[[CellBatch], torch.Tensor]) -> dict[str, float]:
        """Mean cross-entropy of hidden genes in nats, weighted as Lightning weights those of the model.

        Parameters
        ----------
        batches
            Cells of the validation.
        mask
            Which tokens of a truncated batch are hidden, bool ``(t,)``.
        """
        totals, n_cells = torch.zeros(2, dtype=torch.float64), 0
        for batch in batches:
            tokens, bounds = truncate(batch["tokens"], batch["cu_seqlens"], self.max_tokens)
            hidden = mask({**batch, "tokens": tokens, "cu_seqlens": bounds})
            totals += self._of_batch(tokens, bounds, hidden) * (len(bounds) - 1)
            n_cells += len(bounds) - 1
        unigram, mean_rank = (totals / max(n_cells, 1)).tolist()
        return {"unigram": unigram, "mean_rank": mean_rank}

    def _of_batch(self, tokens: torch.Tensor, bounds: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        count, total, squares = self._sums
        frequency = (count + _UNSEEN).log().float()
        mean = total / count.clamp(min=1)
        deviation = (squares / count.clamp(min=1) - mean**2).clamp(min=0).sqrt().clamp(min=_LEAST_DEVIATION)
        # of a gene that was never seen nothing is known
        mean = torch.where(count > 0, mean, 0.5).float()
        deviation = torch.where(count > 1, deviation, 1.0).float()
        cell = cell_of_token(bounds)
        ids, place = self._places(tokens, bounds)
        losses = torch.zeros(2, dtype=torch.float64)
        rows = hidden.nonzero().squeeze(1)
        for part in rows.split(_ROWS):
            shown = self._shown(ids, cell, hidden, cell[part])
            z = (place[part, None] - mean) / deviation
            for i, logits in enumerate((frequency.expand(len(part), -1), frequency - 0.5 * z**2 - deviation.log())):
                allowed = logits.masked_fill(shown, -torch.inf)
                losses[i] += torch.nn.functional.cross_entropy(allowed, ids[part], reduction="sum").double()
        return losses / max(len(rows), 1)

    def _shown(self, ids: torch.Tensor, cell: torch.Tensor, hidden: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """Genes that cells show, and special tokens, bool ``(len(cells), n_tokens)``."""
        first, last = int(cells[0]), int(cells[-1])
        inside = (cell >= first) & (cell <= last) & ~hidden
        seen = torch.zeros(last - first + 1, self._sums.shape[1], dtype=torch.bool)
        seen[cell[inside] - first, ids[inside]] = True
        return seen[cells - first]

    @staticmethod
    def _places(tokens: torch.Tensor, bounds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens, and where in their cells they stand, between 0 and 1."""
        cell = cell_of_token(bounds)
        place = torch.arange(len(tokens)) - bounds[cell]
        return tokens.long(), (place + 0.5) / bounds.diff()[cell]
