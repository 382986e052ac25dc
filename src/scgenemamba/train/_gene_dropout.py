"""Cells as another technology would have seen them: with fewer of their genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from scgenemamba.nn import cell_of_token

if TYPE_CHECKING:
    from scgenemamba.tokens import CellBatch

    from ._random import CellRandom

# keys of the random numbers of cells, and of their tokens from there on downwards; masks take those from zero upwards
_OF_CELL, _OF_TOKENS = -1, -2


def drop_genes(batch: CellBatch, random: CellRandom, most: float) -> CellBatch:
    """Leave half of the cells as they are, and take from the others each gene with a probability of their own.

    Parameters
    ----------
    batch
        Cells; their expression, which the decoder is to tell, stays whole.
    random
        Random numbers of the cells.
    most
        The probabilities are uniform between 0 and this one. Each cell keeps its first gene.
    """
    lengths = batch["cu_seqlens"].diff()
    place = torch.arange(len(batch["tokens"]), device=lengths.device) - batch["cu_seqlens"][:-1].repeat_interleave(
        lengths
    )
    share = random.uniform(batch["cell"], torch.full_like(batch["cell"], _OF_CELL))
    rate = (most * (2 * share - 1)).clamp(min=0).repeat_interleave(lengths)
    kept = random.uniform(batch["cell"].repeat_interleave(lengths), _OF_TOKENS - place) >= rate
    kept |= place == 0
    left = torch.zeros_like(lengths).index_add_(0, cell_of_token(batch["cu_seqlens"]), kept.to(lengths.dtype))
    bounds = torch.cat([batch["cu_seqlens"][:1], left.cumsum(0)]).to(batch["cu_seqlens"].dtype)
    return {**batch, "tokens": batch["tokens"][kept], "cu_seqlens": bounds}
