"""Genes whose context differs between two conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from scgenemamba.nn import cell_of_token
from scgenemamba.tl._cells import rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from anndata import AnnData

    from scgenemamba.model import GeneMambaModel

# of each condition: enough for 2.7 million ways to exchange them
_N_BLOCKS = 12
_FEWEST_PERMUTATIONS = 20


def gene_shifts(
    model: GeneMambaModel,
    adata: AnnData | None = None,
    *,
    groupby: str,
    group: str,
    reference: str = "rest",
    indices: Sequence[int] | None = None,
    min_cells: int = 10,
    n_permutations: int = 200,
    random_state: int = 0,
    batch_size: int | None = None,
) -> pd.DataFrame:
    """Find genes whose contextual embedding differs between two conditions.

    Means over fewer cells differ more by chance, so each distance stands beside those of exchanged cells: of random parts of both conditions, of the same
    sizes. The model reads the cells once: it is blocks of random cells, 12 of each condition, that are exchanged.

    What differs may be the rank of a gene or the genes beside it, and in mixed tissue simply the types of cells: compare within one type,
    ``indices=np.flatnonzero(adata.obs["cell_type"] == "B")``. Cells are exchanged as if they were independent; between donors, those of one
    condition can differ as much.

    Parameters
    ----------
    model
        Model, trained or pretrained.
    adata
        Cells, ``None`` for those of the training; not changed, but for what scvi-tools registers.
    groupby
        Column of ``adata.obs`` with the conditions.
    group
        Condition of interest.
    reference
        Condition to compare it with, ``"rest"`` for all other cells that have a value.
    indices
        Cells to read, ``None`` for all of the two conditions.
    min_cells
        Genes that fewer cells of either condition show are left out.
    n_permutations
        How often blocks are exchanged at random.
    random_state
        Seed of the blocks and their exchange.
    batch_size
        Cells at a time; does not change the result.

    Returns
    -------
    Table by gene, those that differ most first:

    - ``n_cells``, ``n_cells_reference``: cells that show the gene.
    - ``distance``: cosine distance between its mean states, after the mean over all genes of the table is taken off in each condition.
    - ``expected``: mean of that distance for exchanged cells.
    - ``z``: how far it is from those, in standard deviations of their cube roots.
    - ``p_value``: share of ``z`` of exchanged cells, of all genes, that are as high.
    - ``fdr``: false discovery rate by Benjamini and Hochberg.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If a condition has no cells, no gene is shown by so many of both, or there are fewer than 20 permutations.

    Notes
    -----
    Takes about ``420 * n_genes * d_model`` bytes for the sums of blocks, for genes that enough cells of both conditions show.
    """
    if min_cells < 1:
        msg = f"`min_cells` must be at least 1, got {min_cells}."
        raise ValueError(msg)
    if n_permutations < _FEWEST_PERMUTATIONS:
        msg = (
            f"`n_permutations` must be at least {_FEWEST_PERMUTATIONS} to tell what chance does, got {n_permutations}."
        )
        raise ValueError(msg)
    cells = model.adata if adata is None else adata
    rows, in_group = _conditions(cells, groupby, group, reference, indices)
    generator = np.random.default_rng(random_state)
    blocks = _draw_blocks(in_group, generator)
    tokens = _tokens_shown(model, adata, rows, in_group, min_cells)
    sizes = f"{min_cells} cells each of {group!r} ({in_group.sum():,} cells) and of {reference!r} ({(~in_group).sum():,} cells)"
    _check_enough(len(tokens), sizes)
    sums = _sums(model, adata, rows, blocks, tokens, batch_size)
    chosen = _observed(blocks)
    n_cells = np.stack([chosen @ sums.n_cells, (1 - chosen) @ sums.n_cells])
    shown = (n_cells >= min_cells).all(axis=0)
    _check_enough(int(shown.sum()), sizes)
    sums = BlockSums(sums.genes[shown], sums.states[:, shown], sums.n_cells[:, shown])
    exchanged = np.stack([_distances(sums, _exchange(blocks, generator)) for _ in range(n_permutations)])
    table = _table(_distances(sums, chosen), exchanged)
    table.insert(0, "n_cells", n_cells[0, shown].astype(np.int64))
    table.insert(1, "n_cells_reference", n_cells[1, shown].astype(np.int64))
    return table.set_index(pd.Index(sums.genes, name="gene")).sort_values("z", ascending=False, kind="stable")


class Blocks(NamedTuple):
    """Blocks of cells: first those of the group, then of the reference, then two whose cells stay where they are."""

    of_cell: npt.NDArray[np.int64]
    n_group: int
    n_reference: int


class BlockSums(NamedTuple):
    """Sums of states ``(n_blocks, n_genes, d)`` and numbers of cells ``(n_blocks, n_genes)`` of each block, float64."""

    genes: npt.NDArray[np.object_]
    states: npt.NDArray[np.float64]
    n_cells: npt.NDArray[np.float64]


def _conditions(
    adata: AnnData | None, groupby: str, group: str, reference: str, indices: Sequence[int] | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Cells of both conditions, and whether they are of the group."""
    if adata is None or groupby not in adata.obs:
        has = [] if adata is None else [*adata.obs.columns]
        msg = f"`groupby`: adata.obs has no column {groupby!r}; it has {has}."
        raise KeyError(msg)
    rows = rows_of(indices, adata.n_obs)
    column = adata.obs[groupby].iloc[rows]
    values = column.astype(str).where(column.notna(), None).to_numpy(object)
    in_group = values == str(group)
    in_reference = pd.notna(values) & ~in_group if reference == "rest" else values == str(reference)
    if group == reference:
        msg = f"`group` and `reference` are both {group!r}."
        raise ValueError(msg)
    for name, found in ((group, in_group), (reference, in_reference)):
        if not found.any():
            there = sorted({value for value in values if value is not None})
            msg = f"No cell{'' if indices is None else ' among `indices`'} is of {name!r}; {groupby!r} has {there}."
            raise ValueError(msg)
    both = in_group | in_reference
    return rows[both], in_group[both]


def _check_enough(n_genes: int, sizes: str) -> None:
    if n_genes < 2:
        msg = f"{n_genes} genes are shown by {sizes}, and two are needed: lower `min_cells`."
        raise ValueError(msg)


def _draw_blocks(in_group: npt.NDArray[np.bool_], generator: np.random.Generator) -> Blocks:
    """Blocks of equal size, so that exchanging them leaves the sizes of the conditions as they are.

    Where one condition has more cells than fill its blocks, the rest of them stays.
    """
    sizes = int(in_group.sum()), int((~in_group).sum())
    n_small = min(_N_BLOCKS, *sizes)
    cells_per_block = min(sizes) / n_small
    numbers = [min(_N_BLOCKS, int(size / cells_per_block + 1e-9)) for size in sizes]
    of_cell = np.empty(len(in_group), dtype=np.int64)
    for i, (size, number) in enumerate(zip(sizes, numbers, strict=True)):
        drawn = (generator.permutation(size) / cells_per_block + 1e-9).astype(np.int64)
        stays = sum(numbers) + i
        of_cell[in_group if i == 0 else ~in_group] = np.where(drawn < number, drawn + i * numbers[0], stays)
    return Blocks(of_cell, *numbers)


def _observed(blocks: Blocks) -> npt.NDArray[np.float64]:
    """Which blocks are of the group."""
    return np.repeat([1.0, 0.0, 1.0, 0.0], [blocks.n_group, blocks.n_reference, 1, 1])


def _exchange(blocks: Blocks, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    chosen = _observed(blocks)
    chosen[:-2] = generator.permutation(chosen[:-2])
    return chosen


@torch.inference_mode()
def _sums(
    model: GeneMambaModel,
    adata: AnnData | None,
    rows: npt.NDArray[np.int64],
    blocks: Blocks,
    tokens: npt.NDArray[np.int64],
    batch_size: int | None,
) -> BlockSums:
    # the last slot is that of all tokens beyond
    slot = torch.full((int(tokens.max()) + 2,), -1)
    slot[tokens] = torch.arange(len(tokens))
    n_blocks, n_genes, width = len(_observed(blocks)), len(tokens), model.module.config.d_model
    # float64: sums in any order agree
    states = torch.zeros(n_blocks * n_genes, width, dtype=torch.float64)
    n_cells = torch.zeros(n_blocks * n_genes, dtype=torch.float64)
    of_cell, start = torch.from_numpy(blocks.of_cell), 0
    with tqdm(total=len(rows), desc="States of genes", unit=" cells", leave=False, delay=5) as bar:
        for encoded, _ in model._encoded(adata, rows, batch_size, None):
            place = slot[encoded.tokens.cpu().long().clamp(max=len(slot) - 1)]
            known = place >= 0
            block = of_cell[start + cell_of_token(encoded.cu_seqlens.cpu())]
            at = (block * n_genes + place)[known]
            states.index_add_(0, at, encoded.hidden.cpu()[known].double())
            n_cells.index_add_(0, at, torch.ones(len(at), dtype=torch.float64))
            start += len(encoded.cu_seqlens) - 1
            bar.update(len(encoded.cu_seqlens) - 1)
    genes = np.asarray(model.vocabulary.genes, dtype=object)[tokens - model.vocabulary.FIRST_GENE]
    return BlockSums(genes, states.view(n_blocks, n_genes, width).numpy(), n_cells.view(n_blocks, n_genes).numpy())


def _tokens_shown(
    model: GeneMambaModel,
    adata: AnnData | None,
    rows: npt.NDArray[np.int64],
    in_group: npt.NDArray[np.bool_],
    min_cells: int,
) -> npt.NDArray[np.int64]:
    """Tokens of genes that enough cells of both conditions show, found without the model: sums of the others need no memory."""
    first, n_genes = model.vocabulary.FIRST_GENE, len(model.vocabulary)
    n_cells = np.zeros((2, first + n_genes), dtype=np.int64)
    cells = model._validate_anndata(adata)
    for i, part in enumerate((rows[in_group], rows[~in_group])):
        for batch in model._make_data_loader(adata=cells, indices=part, data_and_attributes=[]):
            tokens = batch["tokens"].numpy()
            n_cells[i] += np.bincount(tokens[tokens < first + n_genes], minlength=first + n_genes)
    shown = np.flatnonzero((n_cells >= min_cells).all(axis=0))
    return shown[shown >= first]


def _distances(sums: BlockSums, chosen: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Cosine distance between the embeddings of each gene in the chosen blocks and in the others, ``(n_genes,)``."""
    unit = []
    for weight in (chosen, 1 - chosen):
        n_cells = weight @ sums.n_cells
        # a gene that no cell of the exchanged ones shows has no distance
        mean = np.tensordot(weight, sums.states, 1) / np.where(n_cells > 0, n_cells, np.nan)[:, None]
        mean -= np.nanmean(mean, axis=0)
        unit.append(mean / np.linalg.norm(mean, axis=1, keepdims=True))
    return 1 - (unit[0] * unit[1]).sum(axis=1)


def _table(distance: npt.NDArray[np.float64], exchanged: npt.NDArray[np.float64]) -> pd.DataFrame:
    """Distances beside those of exchanged cells ``(n_permutations, n_genes)``."""
    from scipy.stats import false_discovery_control

    # squared lengths of noise are skewed, more so where it has few directions; their cube roots hardly are (Wilson and Hilferty 1931)
    roots, null = np.cbrt(distance), np.cbrt(exchanged)
    z = (roots - np.nanmean(null, axis=0)) / np.nanstd(null, axis=0, ddof=1)
    # the observed distance among the others, so that none of them stands out for not having shaped mean and spread
    everything = np.concatenate([roots[None], null])
    scaled = (everything - np.nanmean(everything, axis=0)) / np.nanstd(everything, axis=0)
    # few exchanges say little of the tail for one gene; in units of z, genes share theirs
    chance = np.sort(scaled[1:][np.isfinite(scaled[1:])])
    p_value = (len(chance) - np.searchsorted(chance, scaled[0], side="left") + 1) / (len(chance) + 1)
    return pd.DataFrame(
        {
            "distance": distance,
            "expected": np.nanmean(exchanged, axis=0),
            "z": z,
            "p_value": p_value,
            "fdr": false_discovery_control(p_value),
        }
    )
