"""One look at all files before training: their genes, factors and scales, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from scgenemamba.tokens import (
    MedianSketch,
    Scale,
    Vocabulary,
    check_values,
    counts_from,
    gene_names,
    infer_scale,
    map_genes,
    to_token_space,
)

from ._cells import Source
from ._files import CellFile

if TYPE_CHECKING:
    import scipy.sparse as sp

_CELLS_PER_CHUNK = 4_096
_CELLS_FOR_SCALE = 512


@dataclass(frozen=True, eq=False)
class Survey:
    """What the files hold.

    Attributes
    ----------
    sources
        The files, with the tokens of their features and the scale of their values.
    vocabulary
        Genes that any cell expresses, or those of the model that is trained on.
    medians
        Rank factors of its genes, float64 ``(n_genes,)``.
    empty
        Cells without any gene of the vocabulary, by file.
    """

    sources: list[Source]
    vocabulary: Vocabulary
    medians: npt.NDArray[np.float64]
    empty: dict[str, int]

    @property
    def n_cells(self) -> int:
        """Cells of all files."""
        return sum(source.file.n_cells for source in self.sources)


def survey(
    paths: Sequence[str | Path],
    *,
    layer: str | None = None,
    gene_key: str | None = None,
    vocabulary: Vocabulary | None = None,
    medians: npt.NDArray[np.float64] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Survey:
    """Read all cells once, a few thousand at a time.

    Parameters
    ----------
    paths
        Files, h5ad or zarr; each may have other genes.
    layer
        Layer that holds the values, ``None`` for X.
    gene_key
        Column of ``var`` that holds the gene names, ``None`` for its index.
    vocabulary, medians
        Those of a pretrained model, ``None`` for those of the files.
    progress
        Told how many of how many cells are read.

    Raises
    ------
    FileNotFoundError, ValueError
        Naming the file, and the cell and gene, of what cannot be used: before the pass where it can be seen there.
    """
    files = [CellFile(path, layer) for path in paths]
    if not files:
        msg = "There are no files to read."
        raise ValueError(msg)
    names = [_gene_names(file, gene_key) for file in files]
    scales = [_scale_of(file) for file in files]
    given = vocabulary
    vocabulary = given or Vocabulary.from_names(np.concatenate(names))
    starts = np.cumsum([0, *(file.n_cells for file in files)])
    sources = [
        Source(file, map_genes(own, vocabulary).token_ids, scale, int(start))
        for file, own, scale, start in zip(files, names, scales, starts, strict=False)
    ]
    for source in sources:
        if not (source.token_ids >= 0).any():
            msg = f"{source.file.path} has no gene of the vocabulary: is it of the same species?"
            raise ValueError(msg)
    sketch, empty = MedianSketch(vocabulary.n_tokens), {}
    for source in sources:
        n_empty = 0
        for first in range(0, source.file.n_cells, _CELLS_PER_CHUNK):
            chunk = source.file.read(first, _CELLS_PER_CHUNK)
            _check(source, chunk, first)
            counts = to_token_space(counts_from(chunk, source.scale), source.token_ids, vocabulary.n_tokens)
            sketch.update(counts)
            n_empty += int((np.diff(counts.indptr) == 0).sum())
            if progress is not None:
                progress(sketch.n_cells, int(starts[-1]))
        if n_empty:
            empty[str(source.file.path)] = n_empty
    found = sketch.medians()[Vocabulary.FIRST_GENE :]
    if given is None:
        return _of_expressed_genes(Survey(sources, vocabulary, found, empty))
    return Survey(sources, vocabulary, found if medians is None else medians, empty)


def _of_expressed_genes(found: Survey) -> Survey:
    expressed = np.isfinite(found.medians)
    if not expressed.any():
        msg = "No cell expresses any gene: all values are zero."
        raise ValueError(msg)
    new_id = np.full(found.vocabulary.n_tokens, -1, dtype=np.int32)
    new_id[Vocabulary.FIRST_GENE :][expressed] = np.arange(expressed.sum(), dtype=np.int32) + Vocabulary.FIRST_GENE
    sources = [
        replace(source, token_ids=np.where(source.token_ids < 0, -1, new_id[source.token_ids]))
        for source in found.sources
    ]
    return Survey(sources, Vocabulary(found.vocabulary.genes[expressed]), found.medians[expressed], found.empty)


def _gene_names(file: CellFile, gene_key: str | None) -> npt.NDArray[np.object_]:
    try:
        return gene_names(file.var, gene_key)
    except ValueError as error:
        msg = f"{file.path}: {error}"
        raise ValueError(msg) from error


def _scale_of(file: CellFile) -> Scale:
    sample = file.spread(_CELLS_FOR_SCALE)
    if check_values(sample) is not None:
        # the pass names the cell
        return Scale("linear")
    scale = infer_scale(sample, file.log_base)
    if scale is None:
        msg = f"The values of {file.path} are no counts, and the base of their logarithm is unknown. Name a layer with counts, or say in uns['log1p'] what they are, as scanpy does."
        raise ValueError(msg)
    return scale


def _check(source: Source, chunk: sp.csr_matrix, first: int) -> None:
    bad = check_values(chunk)
    if bad is None:
        return
    row, column, value = bad
    cell, gene = source.file.cell_names(np.array([first + row]))[0], source.file.var.index[column]
    msg = f"{source.file.path}: the value of gene {gene!r} in cell {cell!r} is {value:g}; expression is finite and not negative."
    raise ValueError(msg)
