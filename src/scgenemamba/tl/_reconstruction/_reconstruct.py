"""Reconstruction of hidden genes of held-out cells, beside guesses that need no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from scgenemamba.tokens import CellBatch, Vocabulary
from scgenemamba.train import RankBaselines

from ._cells import batches_of, cells_to_score, check_apart, check_not_known, reference_cells
from ._hidden_genes import HiddenCell, draw_hidden, hidden_cells, model_logits, score
from ._nearest_cells import NearestCells

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from anndata import AnnData

    from scgenemamba.model import GeneMambaModel

_COUNTS = ["n_hidden", "n_shared", "n_only_true", "n_only_guessed"]


def rank_reconstruction(
    model: GeneMambaModel,
    adata: AnnData | None = None,
    *,
    indices: Sequence[int] | None = None,
    reference: AnnData | None = None,
    groupby: str | None = None,
    mask_rate: float = 0.15,
    top_k: Sequence[int] = (1, 10, 50),
    n_neighbors: int = 50,
    n_cells: int | None = 1000,
    random_state: int = 0,
    batch_size: int | None = None,
) -> pd.DataFrame:
    """Hide genes of held-out cells, and score how well they are guessed from the genes that are left.

    A hidden gene does not enter the encoder, so that no guess can copy it. Three guesses that need no model are scored on the same
    hidden genes: ``unigram``, how many reference cells express a gene; ``mean_rank``, that times a normal density around the
    gene's mean place; ``nearest_cells``, the same of the reference cells that are nearest by the shown genes. All methods
    know which genes the cell shows and that none occurs twice, and the places of the hidden ones (but for a model trained
    with ``masked_last``, which knows their order only).

    Parameters
    ----------
    model
        Model with a trained head for masked genes.
    adata
        Held-out cells. ``None`` for those of the model, of which the validation cells are taken unless ``indices`` says
        otherwise. Not changed, but for what scvi-tools registers.
    indices
        Cells to score: rows, or a mask.
    reference
        Cells that the other guesses learn from, ``None`` for the training cells of the model.
    groupby
        Column of the cells' ``obs`` that goes into the table. Cells without a value are left out.
    mask_rate
        Share of each cell's genes that is hidden, at least one.
    top_k
        Numbers of best guesses among which a gene has to be.
    n_neighbors
        Number of nearest cells; 50 guess better than 10.
    n_cells
        Score at most so many cells, drawn at random; ``None`` for all.
    random_state
        Seed of the hidden genes and of the cells drawn.
    batch_size
        Cells at a time; does not change the result.

    Returns
    -------
    Table with a row for each cell and method: ``cell``, the column ``groupby``, ``method`` (``model`` or a guess), and the scores

    ``top_1`` and so on
        Share of the hidden places whose gene is among the so many likeliest.
    ``loss``
        Cross-entropy in nats over the genes that the cell does not show; lower is better.
    ``spearman``
        Correlation of the places of the hidden genes with those where the method expects them, each gene's mean over the hidden places.
        0 for a method that expects all at the same place; NaN for fewer than two genes.
    ``levenshtein``
        Distance of the sequence of hidden genes from the likeliest one of different genes, divided by its length: 0 if they
        are equal, 1 if nothing is left of it.
    ``bleu``
        4-gram BLEU of the whole ranking with that sequence filled in, against the true one, over the runs that hold a hidden place; with
        Lin and Och's smoothing, see :func:`~scgenemamba.metrics.bleu`.
    ``overlap``
        Share of the hidden genes that are in that sequence, wherever they stand.
    ``n_hidden``, ``n_shared``, ``n_only_true``, ``n_only_guessed``
        Hidden genes, and how many are in both sequences, or in one of them.

    Raises
    ------
    KeyError
        If there is no column ``groupby``.
    ValueError
        If the model has no trained head for masked genes, there are no held-out or no reference cells, a scored cell is among the
        reference cells, or an argument is out of range.

    Notes
    -----
    In its place, a hidden gene is given away in part by its neighbours: most genes of a cell have one count, and their order is
    that of their rank factors. A model can learn this, the other guesses know it only roughly, by mean places: a model may be better at every
    place and yet find fewer of the hidden genes (``overlap``). A model trained with ``masked_last`` has to tell hidden genes from
    which genes the cell expresses alone.

    Examples
    --------
    >>> table = tl.rank_reconstruction(model)
    >>> metrics.reconstruction_scores(table)
    """
    _check(model, mask_rate, top_k, n_neighbors, n_cells)
    # before anything is registered: a model without cells takes the first ones it is given
    known = reference_cells(model, reference)
    cells, rows = cells_to_score(model, adata, indices, groupby, n_cells, random_state)
    check_apart(cells, rows, *known)
    guesses = _Guesses.learn(model, *known, n_neighbors, batch_size)
    is_gene = np.zeros(model.module.config.n_tokens, dtype=bool)
    is_gene[Vocabulary.FIRST_GENE : model.vocabulary.n_tokens] = True
    found = []
    with tqdm(desc="Reconstructing", unit=" cells", total=len(rows), leave=False) as bar:
        hidden = _hidden_with_logits(model, cells, rows, mask_rate, random_state, batch_size)
        for row, (cell, logits) in zip(rows, hidden, strict=True):
            name = str(cells.obs_names[row])
            check_not_known(name, cell.tokens, guesses.names, guesses.cells)
            about = {"cell": name} | ({} if groupby is None else {groupby: cells.obs[groupby].iloc[row]})
            for method, log_scores in {"model": logits, **guesses.log_scores(cell)}.items():
                found.append(about | {"method": method} | score(log_scores, cell, is_gene, top_k))
            bar.update()
    table = pd.DataFrame(found)
    counts = [column for column in table if column in _COUNTS]
    table = table[[*(column for column in table if column not in counts), *counts]]
    columns = ["method"] if groupby is None else ["method", groupby]
    return table.assign(**{column: pd.Categorical(table[column], pd.unique(table[column])) for column in columns})


@dataclass(frozen=True, eq=False)
class _Guesses:
    """What can be guessed without a model."""

    names: dict[str, int]
    cells: list[npt.NDArray[np.int64]]
    baselines: RankBaselines
    nearest: NearestCells

    @classmethod
    def learn(
        cls,
        model: GeneMambaModel,
        reference: AnnData,
        rows: npt.NDArray[np.int64],
        n_neighbors: int,
        batch_size: int | None,
    ) -> _Guesses:
        if n_neighbors > len(rows):
            msg = f"`n_neighbors` is {n_neighbors}, but there are only {len(rows)} reference cells."
            raise ValueError(msg)
        config = model.module.config
        loader = tqdm(batches_of(model, reference, rows, batch_size), desc="Reading the reference cells", leave=False)
        batches = [model.module.truncate(batch) for batch in loader]
        cells = [cell.tokens for batch in batches for cell in hidden_cells(batch, batch["tokens"] < 0)]
        baselines = RankBaselines(config.n_tokens, config.max_tokens).fit(batches)
        names = {str(name): i for i, name in enumerate(reference.obs_names[rows])}
        return cls(names, cells, baselines, NearestCells(cells, baselines, config.n_tokens, n_neighbors))

    def log_scores(self, cell: HiddenCell) -> dict[str, torch.Tensor]:
        """By method, float64 ``(h, n_tokens)``; the hidden genes are not handed on."""
        place = torch.from_numpy(cell.places[cell.hidden])
        shown_place = cell.places[~cell.hidden]
        near = self.nearest.log_scores(cell.shown, shown_place, place)
        return self.baselines.log_scores(place) | {"nearest_cells": near}


@torch.inference_mode()
def _hidden_with_logits(
    model: GeneMambaModel,
    cells: AnnData,
    rows: npt.NDArray[np.int64],
    mask_rate: float,
    seed: int,
    batch_size: int | None,
) -> Iterator[tuple[HiddenCell, torch.Tensor]]:
    """Each cell with its hidden genes, and the model's logits at their places."""
    module: Any = model.module
    module.eval()
    with module.full_precision():
        for batch in batches_of(model, cells, rows, batch_size):
            batch = module.truncate(batch)
            hidden = draw_hidden(batch, mask_rate, seed)
            sequences = CellBatch(
                tokens=batch["tokens"].to(model.device), cu_seqlens=batch["cu_seqlens"].to(model.device)
            )
            yield from zip(
                hidden_cells(batch, hidden), model_logits(module, sequences, hidden.to(model.device)), strict=True
            )


def _check(
    model: GeneMambaModel, mask_rate: float, top_k: Sequence[int], n_neighbors: int, n_cells: int | None
) -> None:
    model._check_if_trained(warn=False)
    if "masked_genes" not in model.module.objectives or not model.head_trained_:
        msg = (
            "The model has no trained head for masked genes: train one with language='masked_genes' and masked_weight > 0, "
            "or load a checkpoint that has the head."
        )
        raise ValueError(msg)
    if not 0 < mask_rate < 1:
        msg = f"`mask_rate` must be between 0 and 1, got {mask_rate}."
        raise ValueError(msg)
    if not len(top_k) or min(top_k) < 1:
        msg = f"`top_k` must be positive numbers, at least one, got {top_k}."
        raise ValueError(msg)
    for name, value in (("n_neighbors", n_neighbors), ("n_cells", n_cells)):
        if value is not None and value < 1:
            msg = f"`{name}` must be at least 1, got {value}."
            raise ValueError(msg)
