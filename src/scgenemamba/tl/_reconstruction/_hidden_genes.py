"""Hiding genes of cells, guesses of what they are, and how good those are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scgenemamba.train import VALIDATION_EPOCH, CellRandom
from scgenemamba.train._plan import move_last

from ._nearest_cells import places_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from scgenemamba.tokens import CellBatch


@dataclass(frozen=True)
class HiddenCell:
    """A cell of which some genes are hidden.

    Parameters
    ----------
    tokens
        Its genes in their order, int64 ``(n,)``.
    hidden
        Which of them are hidden, bool ``(n,)``.
    """

    tokens: npt.NDArray[np.int64]
    hidden: npt.NDArray[np.bool_]

    @property
    def shown(self) -> npt.NDArray[np.int64]:
        """Tokens that are not hidden, ``(s,)``."""
        return self.tokens[~self.hidden]

    @property
    def target(self) -> npt.NDArray[np.int64]:
        """Tokens that are hidden, ``(h,)``."""
        return self.tokens[self.hidden]

    @property
    def places(self) -> npt.NDArray[np.float64]:
        """Where in the cell each token stands, from 0 to 1, ``(n,)``."""
        return places_of(len(self.tokens))


def draw_hidden(batch: CellBatch, mask_rate: float, seed: int) -> torch.Tensor:
    """Tokens to hide, bool ``(t,)``: the share of each cell's, at least one, by random numbers that belong to the cell."""
    lengths = batch["cu_seqlens"].diff()
    cell = torch.repeat_interleave(batch["cell"], lengths)
    position = torch.arange(len(cell)) - torch.repeat_interleave(batch["cu_seqlens"][:-1], lengths)
    drawn = CellRandom(seed, VALIDATION_EPOCH).uniform(cell, position)
    hidden = torch.zeros(len(cell), dtype=torch.bool)
    for start, length in zip(batch["cu_seqlens"].tolist(), lengths.tolist(), strict=False):
        if length:
            order = torch.argsort(drawn[start : start + length], stable=True)
            hidden[start + order[: max(1, round(mask_rate * length))]] = True
    return hidden


def hidden_cells(batch: CellBatch, hidden: torch.Tensor) -> list[HiddenCell]:
    """Cells of a batch, each on its own."""
    bounds = batch["cu_seqlens"].tolist()
    tokens, away = batch["tokens"].long().numpy(), hidden.numpy()
    return [HiddenCell(tokens[i:j], away[i:j]) for i, j in zip(bounds, bounds[1:], strict=False)]


def model_logits(module: Any, batch: CellBatch, hidden: torch.Tensor) -> Iterator[torch.Tensor]:
    """The model's logits at each cell's hidden places in their order, float32 ``(h, n_tokens)``, a cell at a time.

    Parameters
    ----------
    module
        Module with a head for masked genes.
    batch
        Cells that are cut to what the model reads, on the module's device.
    hidden
        Tokens to hide, bool ``(t,)``; what they are does not enter.
    """
    bounds = batch["cu_seqlens"].tolist()
    counts = [int(hidden[i:j].sum()) for i, j in zip(bounds, bounds[1:], strict=False)]
    if any(objective.hidden_last for objective in module.objectives.values()):
        batch, hidden = move_last(batch, hidden)
    encoded = module.encode(batch, hidden)
    for states in encoded.hidden[encoded.masked].float().split(counts):
        yield module.objectives["masked_genes"].head(states).float().cpu()


def score(
    log_scores: torch.Tensor, cell: HiddenCell, is_gene: npt.NDArray[np.bool_], top_k: Sequence[int]
) -> dict[str, float]:
    """Scores of a guess.

    Parameters
    ----------
    log_scores
        How likely each token is at each hidden place, logarithms up to a constant for each place, ``(h, n_tokens)``.
    cell
        The truth.
    is_gene
        Tokens that can be guessed, bool ``(n_tokens,)``; those that the cell shows are left out besides.
    top_k
        Numbers of best guesses among which the gene has to be.
    """
    allowed = is_gene.copy()
    allowed[cell.shown] = False
    genes = np.flatnonzero(allowed)
    values = log_scores[:, torch.from_numpy(genes)]
    own = torch.from_numpy(np.searchsorted(genes, cell.target))
    at_target = values.gather(1, own[:, None])
    better, equal = (values > at_target).sum(1), (values == at_target).sum(1) - 1
    # of equally likely genes, half come before
    rank = better + equal / 2
    total = values.double().logsumexp(1, keepdim=True)
    guess = genes[most_likely(values)]
    return (
        {"loss": float((total - at_target).mean())}
        | {f"top_{k}": float((rank < k).double().mean()) for k in top_k}
        | {"spearman": order_correlation(values[:, own].double() - total)}
        | _of_sequences(guess, cell)
    )


def _of_sequences(guess: npt.NDArray[np.int64], cell: HiddenCell) -> dict[str, float]:
    from scgenemamba.metrics import bleu, levenshtein

    whole = cell.tokens.copy()
    whole[cell.hidden] = guess
    n_shared = len(np.intersect1d(guess, cell.target))
    n_other = len(guess) - n_shared
    return {
        "levenshtein": levenshtein(guess, cell.target),
        "bleu": bleu(whole, cell.tokens, counted=cell.hidden, smooth=True),
        "overlap": n_shared / max(len(guess), 1),
        "n_hidden": len(guess),
        "n_shared": n_shared,
        "n_only_true": n_other,
        "n_only_guessed": n_other,
    }


def most_likely(values: torch.Tensor) -> npt.NDArray[np.int64]:
    """Most likely way to put a different gene at each place: columns of ``(h, g)``, int64 ``(h,)``.

    Of each place, only the ``h`` likeliest genes can be part of it: the other places take ``h - 1`` genes at most.
    """
    from scipy.optimize import linear_sum_assignment

    columns = values.topk(len(values), dim=1).indices.unique()
    _, chosen = linear_sum_assignment(values[:, columns].double().numpy(), maximize=True)
    return columns.numpy()[chosen]


def order_correlation(log_likely: torch.Tensor) -> float:
    """Spearman correlation of the places of the hidden genes with those where a guess expects them.

    Parameters
    ----------
    log_likely
        Logarithm of the probability of each hidden gene at each hidden place, float64 ``(h, h)``; the gene of column ``i`` belongs
        to place ``i``.

    Returns
    -------
    0 for a guess that expects all genes at the same place; NaN for fewer than two genes.
    """
    from scipy.stats import rankdata

    n = len(log_likely)
    if n < 2:
        return float("nan")
    place = torch.arange(n, dtype=torch.float64)
    # rounded, so that equal expectations are equal
    expected = np.round((log_likely.softmax(0) * place[:, None]).sum(0).numpy(), 6)
    if np.ptp(expected) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(expected), place.numpy())[0, 1])
