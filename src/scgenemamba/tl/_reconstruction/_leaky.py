"""The reconstruction score of the GeneMamba paper, in which nothing is hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from scgenemamba.tl._cells import rows_of
from scgenemamba.tokens import Vocabulary

from ._cells import batches_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from anndata import AnnData

    from scgenemamba.model import GeneMambaModel

    Cells = list[npt.NDArray[np.int64]]

_HEADS = ("masked_genes", "leaky_next_token")


def leaky_rank_reconstruction(
    model: GeneMambaModel,
    adata: AnnData | None = None,
    *,
    indices: Sequence[int] | None = None,
    n_cells: int | None = 10,
    random_state: int = 0,
    batch_size: int | None = None,
) -> pd.DataFrame:
    """Score reconstructed rankings as the GeneMamba paper does: the encoder reads the genes that it is to give back.

    The numbers say nothing about what a model knows of cells: a function that copies its input, which is scored beside the
    model, gets the best ones. For comparison with published tables only; :func:`rank_reconstruction` hides what is to be guessed.

    Parameters
    ----------
    model
        Model with a trained head over the vocabulary, of ``language="masked_genes"`` or ``"leaky_next_token"``.
    adata
        Cells, ``None`` for those of the model. Not changed, but for what scvi-tools registers.
    indices
        Cells of which ``n_cells`` are drawn: rows, or a mask; ``None`` for all.
    n_cells
        Number of cells; the paper's code draws 10. ``None`` takes all, in their order.
    random_state
        Seed of the cells drawn.
    batch_size
        Cells at a time; does not change the result.

    Returns
    -------
    Table with a row for each ``method``: the ``model``, whose output at each token is the likeliest one; ``copy``, whose output is
    its input; ``copy_next``, which gives the next token instead, as the published loss asks for. Columns as in the published code:

    ``l_dist``
        Levenshtein distance of input and output, all cells in one sequence; not normalised.
    ``bleu``
        4-gram BLEU of those sequences, with the input as the candidate and the output as the reference.
    ``spearman``
        Correlation of one minus place over length, over all pairs of cell and gene that are in the input or the output; 0 where
        one is missing.
    ``n_shared``, ``n_only_true``, ``n_only_guessed``
        Pairs of cell and gene in both, or in one of them.
    ``n_cells``, ``n_tokens``
        What was scored.

    Raises
    ------
    ValueError
        If the model has no such head, or there are no cells.

    References
    ----------
    GeneMamba, arXiv:2504.16956, with its public code.
    """
    model._check_if_trained(warn=False)
    head = next((name for name in _HEADS if name in model.module.objectives), None)
    if head is None or not model.head_trained_:
        msg = (
            "The model has no trained head that predicts genes from both directions: train one with language='masked_genes' "
            "or 'leaky_next_token' and masked_weight > 0, or load a checkpoint that has the head."
        )
        raise ValueError(msg)
    cells = model.adata if adata is None else adata
    if cells is None:
        msg = "The model has no cells of its own: give some, `adata=`."
        raise ValueError(msg)
    rows = rows_of(indices, cells.n_obs)
    if not len(rows) or (n_cells is not None and n_cells < 1):
        msg = f"There are no cells to score: {len(rows)} are given, `n_cells` is {n_cells}."
        raise ValueError(msg)
    if n_cells is not None and n_cells < len(rows):
        rows = np.random.default_rng(random_state).choice(rows, n_cells, replace=False)
    given, said = _read(model, head, cells, rows, batch_size)
    outputs = {"model": said, "copy": given, "copy_next": [_next(tokens) for tokens in given]}
    return pd.DataFrame([{"method": name, **_scores(given, output)} for name, output in outputs.items()])


@torch.inference_mode()
def _read(
    model: GeneMambaModel, head: str, adata: AnnData, rows: npt.NDArray[np.int64], batch_size: int | None
) -> tuple[Cells, Cells]:
    """Tokens of each cell, and the likeliest token at each of them."""
    module: Any = model.module
    module.eval()
    given, said = [], []
    for batch in tqdm(batches_of(model, adata, rows, batch_size), desc="Reconstructing", leave=False):
        batch = module.truncate({key: batch[key].to(model.device) for key in ("tokens", "cu_seqlens")})
        encoded = module.encode(batch)
        states = encoded.hidden
        if module.config.use_cls:
            inside = torch.ones(len(states), dtype=torch.bool, device=states.device)
            inside[encoded.cu_seqlens[:-1]] = False
            states = states[inside]
        lengths = batch["cu_seqlens"].diff().tolist()
        for tokens, own in zip(batch["tokens"].split(lengths), states.float().split(lengths), strict=True):
            given.append(tokens.long().cpu().numpy())
            said.append(module.objectives[head].head(own).argmax(-1).cpu().numpy())
    return given, said


def _next(tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The token after each one, padding after the last."""
    return np.append(tokens[1:], Vocabulary.PAD)


def _scores(given: Cells, said: Cells) -> dict[str, float]:
    from scipy.stats import spearmanr

    from scgenemamba.metrics import bleu, levenshtein

    first, second = np.concatenate(given).tolist(), np.concatenate(said).tolist()
    both = _ranks(given).merge(_ranks(said), how="outer", on=["cell", "token"], suffixes=("_true", "_guessed"))
    known = both.drop_duplicates(["cell", "token"])[["rank_true", "rank_guessed"]].notna()
    ranks = both[["rank_true", "rank_guessed"]].fillna(0.0)
    return {
        "l_dist": levenshtein(first, second, normalised=False),
        "bleu": bleu(first, second),
        "spearman": float(spearmanr(ranks["rank_true"], ranks["rank_guessed"]).statistic),
        "n_shared": int(known.all(axis=1).sum()),
        "n_only_true": int((~known["rank_guessed"]).sum()),
        "n_only_guessed": int((~known["rank_true"]).sum()),
        "n_cells": len(given),
        "n_tokens": len(first),
    }


def _ranks(cells: Cells) -> pd.DataFrame:
    """Pairs of cell and token with one minus the place over the length less one."""
    parts = [
        pd.DataFrame({"cell": i, "token": tokens, "rank": 1 - np.arange(len(tokens)) / max(len(tokens) - 1, 1)})
        for i, tokens in enumerate(cells)
    ]
    return pd.concat(parts, ignore_index=True)
