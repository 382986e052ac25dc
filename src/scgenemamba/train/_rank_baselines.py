"""What is known of a hidden gene without reading the cell: the losses that a model has to beat."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from scgenemamba.nn import cell_of_token, truncate

if TYPE_CHECKING:
    from scgenemamba.tokens import CellBatch

# positions of a gene are spread by at least this share of a cell's length
_LEAST_DEVIATION = 0.02
# places that are taken as seen for each gene, spread evenly
_PRIOR = 5.0
# so many cells stand behind a few for what those leave open; of 3 to 30, the best loss of nearest cells in two data sets
_PRIOR_CELLS = 30.0
_UNSEEN, _TINY = 0.5, 1e-300
_GRID, _ROWS = 2_001, 64


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
        self._n_cells = 0

    def fit(self, batches: Iterable[CellBatch]) -> RankBaselines:
        """Learn from cells of the training."""
        for batch in batches:
            self._n_cells += len(batch["cu_seqlens"]) - 1
            tokens, place = self._places(*truncate(batch["tokens"], batch["cu_seqlens"], self.max_tokens))
            for power, sums in enumerate(self._sums):
                sums.index_add_(0, tokens, place.double() ** power)
        count, total, squares = self._sums
        self._share = count + _UNSEEN
        # a few places anywhere keep rare genes from being sure of theirs
        n = count + _PRIOR
        self._mean = (total + _PRIOR / 2) / n
        self._deviation = ((squares + _PRIOR / 3) / n - self._mean**2).sqrt().clamp(min=_LEAST_DEVIATION)
        every, places = torch.arange(len(count)), torch.linspace(0, 1, _GRID, dtype=torch.float64)
        self._grid = torch.cat([self._at(part, every).sum(1) for part in places.split(_ROWS)])
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

    def log_scores(self, place: torch.Tensor) -> dict[str, torch.Tensor]:
        """How likely each token is at hidden places, by baseline.

        Parameters
        ----------
        place
            Where in the cell the places are, from 0 to 1, ``(h,)``.

        Returns
        -------
        Logarithms up to a constant, float64 ``(h, n_tokens)``, of all tokens: those of genes that the cell shows have to be left out.
        """
        share = self._share.log()
        return {
            "unigram": share.expand(len(place), -1),
            "mean_rank": share + _log_density(place.double(), self._mean, self._deviation),
        }

    def log_scores_near(self, place: torch.Tensor, sums: torch.Tensor, n_cells: int) -> torch.Tensor:
        """The same as ``mean_rank`` from a few cells like this one, with all cells behind them for what they leave open.

        Parameters
        ----------
        place
            Where in the cell the hidden places are, from 0 to 1, ``(h,)``.
        sums
            Number of the few cells that express each gene, and sums of its places and of their squares, float64 ``(3, n_tokens)``.
        n_cells
            Number of the few cells.

        Returns
        -------
        Logarithms up to a constant, float64 ``(h, n_tokens)``.
        """
        count, total, squares = sums
        share = (count + _PRIOR_CELLS * self._share / self._n_cells) / (n_cells + _PRIOR_CELLS)
        n = count + _PRIOR_CELLS
        mean = (total + _PRIOR_CELLS * self._mean) / n
        usual = self._deviation**2 + self._mean**2
        variance = (squares + _PRIOR_CELLS * usual) / n - mean**2
        deviation = variance.clamp(min=_LEAST_DEVIATION**2).sqrt()
        return share.log() + _log_density(place.double(), mean, deviation)

    def _of_batch(self, tokens: torch.Tensor, bounds: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        ids, place = self._places(tokens, bounds)
        losses, total = torch.zeros(2, dtype=torch.float64), self._share.sum()
        for start, end in pairwise(bounds.tolist()):
            away = hidden[start:end]
            target, shown, where = ids[start:end][away], ids[start:end][~away], place[start:end][away].double()
            # what is left of the whole when the genes that the cell shows are taken out
            left = total - self._share[shown].sum()
            losses[0] += (left.clamp(min=_TINY).log() - self._share[target].log()).sum()
            left = self._all_at(where) - self._at(where, shown).sum(1)
            own = self._at(where, target.unsqueeze(1)).squeeze(1)
            losses[1] += (torch.maximum(left, own).log() - own.log()).sum()
        return losses / max(int(hidden.sum()), 1)

    def _at(self, place: torch.Tensor, genes: torch.Tensor) -> torch.Tensor:
        """Share of cells that express each gene times the density of its place, ``(len(place), genes)``."""
        z = (place.unsqueeze(1) - self._mean[genes]) / self._deviation[genes]
        return self._share[genes] * torch.exp(-0.5 * z**2) / self._deviation[genes]

    def _all_at(self, place: torch.Tensor) -> torch.Tensor:
        """Sum of that over all genes, ``(len(place),)``: from a grid, finer than any gene's spread."""
        position = place * (len(self._grid) - 1)
        low = position.long().clamp(max=len(self._grid) - 2)
        return torch.lerp(self._grid[low], self._grid[low + 1], position - low)

    @staticmethod
    def _places(tokens: torch.Tensor, bounds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens, and where in their cells they stand, between 0 and 1."""
        cell = cell_of_token(bounds)
        place = torch.arange(len(tokens)) - bounds[cell]
        return tokens.long(), (place + 0.5) / bounds.diff()[cell]


def _log_density(place: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    """Logarithm of normal densities up to a constant, ``(len(place), len(mean))``, as one product of matrices."""
    precision = deviation**-2
    powers = torch.stack([place**2, place, torch.ones_like(place)], dim=1)
    constant = -0.5 * precision * mean**2 - deviation.log()
    return powers @ torch.stack([-0.5 * precision, precision * mean, constant])
