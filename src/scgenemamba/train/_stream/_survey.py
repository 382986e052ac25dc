"""One look at all files before training: their genes, factors and scales, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from scgenemamba.tokens import (
    CellPrints,
    MedianSketch,
    Scale,
    Vocabulary,
    cells_of_another_scale,
    check_values,
    counts_from,
    gene_names,
    infer_scale,
    map_genes,
    print_cells,
    to_token_space,
)

from ._cells import Source
from ._files import CellFile
from ._zarr import datasets_of

if TYPE_CHECKING:
    import scipy.sparse as sp

_T = TypeVar("_T")

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
    repeated
        Cells that are the same as one before them, gene for gene and value for value, by file.
    skipped
        Files that could not be used, and why.
    """

    sources: list[Source]
    vocabulary: Vocabulary
    medians: npt.NDArray[np.float64]
    empty: dict[str, int] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

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
    skip_corrupt: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Survey:
    """Read all cells once, a few thousand at a time.

    Parameters
    ----------
    paths
        Files, h5ad or zarr, or annbatch collections; each may have other genes.
    layer
        Layer that holds the values, ``None`` for X.
    gene_key
        Column of ``var`` that holds the gene names, ``None`` for its index.
    vocabulary, medians
        Those of a pretrained model, ``None`` for those of the files.
    skip_corrupt
        Leave out files that cannot be used, and say which, instead of raising.
    progress
        Told how many of how many cells are read.

    Raises
    ------
    FileNotFoundError, ValueError
        Naming the file, and the cell and gene, of what cannot be used: before the pass where it can be seen there.
    """
    if not paths:
        msg = "There are no files to read."
        raise ValueError(msg)
    usable = _Usable(skip_corrupt)
    files = datasets_of(paths)
    looked_at = [seen for path in files if (seen := usable(path, partial(_look_at, path, layer, gene_key))) is not None]
    given = vocabulary
    vocabulary = given or Vocabulary.from_names(np.concatenate([[], *(names for _, names, _ in looked_at)]))
    n_cells = sum(file.n_cells for file, _, _ in looked_at)
    sketch, prints = MedianSketch(vocabulary.n_tokens), CellPrints()
    sources: list[Source] = []
    empty: dict[str, int] = {}
    repeated: dict[str, int] = {}
    for file, names, scale in looked_at:
        source = Source(file, map_genes(names, vocabulary).token_ids, scale, sum(s.file.n_cells for s in sources))
        read = partial(_read_all, source, vocabulary.n_tokens, sketch.n_cells, n_cells, progress)
        of_file = usable(file.path, read)
        if of_file is None:
            continue
        own_sketch, own_prints, n_empty = of_file
        sketch.add(own_sketch)
        sources.append(source)
        if n_empty:
            empty[str(file.path)] = n_empty
        if n_repeated := prints.add(own_prints):
            repeated[str(file.path)] = n_repeated
    if not sources:
        msg = f"None of the {len(paths)} files can be used: {usable.skipped}."
        raise ValueError(msg)
    if medians is None:
        medians = sketch.medians()[Vocabulary.FIRST_GENE :]
    found = Survey(sources, vocabulary, medians, empty, repeated, usable.skipped)
    return found if given is not None else _of_expressed_genes(found)


class _Usable:
    """Calls what reads a file; where that was asked for, keeps why a file cannot be read instead of raising."""

    def __init__(self, skip_corrupt: bool) -> None:
        self._skip_corrupt = skip_corrupt
        self.skipped: dict[str, str] = {}

    def __call__(self, path: str | Path, read: Callable[[], _T]) -> _T | None:
        try:
            try:
                return read()
            except (OSError, RuntimeError, KeyError) as error:
                if isinstance(error, FileNotFoundError):
                    raise
                # a reading library may not know the name
                msg = str(error) if str(path) in str(error) else f"{path} cannot be read: {error}"
                raise ValueError(msg) from error
        except ValueError as error:
            if not self._skip_corrupt:
                raise
            self.skipped[str(path)] = str(error)
            return None


def _look_at(
    path: str | Path, layer: str | None, gene_key: str | None
) -> tuple[CellFile, npt.NDArray[np.object_], Scale]:
    file = CellFile(path, layer)
    try:
        names = gene_names(file.var, gene_key)
    except ValueError as error:
        msg = f"{file.path}: {error}"
        raise ValueError(msg) from error
    return file, names, _scale_of(file)


def _read_all(
    source: Source, n_tokens: int, n_before: int, n_cells: int, progress: Callable[[int, int], None] | None
) -> tuple[MedianSketch, npt.NDArray[np.uint64], int]:
    """Medians of one file, prints of its cells, and how many express nothing."""
    if not (source.token_ids >= 0).any():
        msg = f"{source.file.path} has no gene of the vocabulary: is it of the same species?"
        raise ValueError(msg)
    sketch, n_empty, prints = MedianSketch(n_tokens), 0, []
    for first in range(0, source.file.n_cells, _CELLS_PER_CHUNK):
        chunk = source.file.read(first, _CELLS_PER_CHUNK)
        chunk.eliminate_zeros()
        _check(source, chunk, first)
        counts = to_token_space(counts_from(chunk, source.scale), source.token_ids, n_tokens)
        sketch.update(counts)
        prints.append(print_cells(counts))
        n_empty += int((np.diff(counts.indptr) == 0).sum())
        if progress is not None:
            progress(n_before + sketch.n_cells, n_cells)
    return sketch, np.concatenate(prints), n_empty


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
    vocabulary = Vocabulary(found.vocabulary.genes[expressed])
    return replace(found, sources=sources, vocabulary=vocabulary, medians=found.medians[expressed])


def _scale_of(file: CellFile) -> Scale:
    sample = file.spread(_CELLS_FOR_SCALE)
    if check_values(sample) is not None:
        # the pass names the cell
        return Scale("linear")
    scale = infer_scale(sample, file.log_base)
    if scale is None:
        msg = f"The values of {file.path} are no counts, and the base of their logarithm is unknown. Name a layer with counts, or say in uns['log1p'] what they are, as scanpy does."
        raise ValueError(msg)
    n_filled = np.count_nonzero(np.diff(sample.indptr))
    if scale.kind == "linear" and len(cells_of_another_scale(sample, Scale("counts"))) < n_filled / 2:
        # counts, but for some cells: the pass names the first
        return Scale("counts")
    return scale


def _check(source: Source, chunk: sp.csr_matrix, first: int) -> None:
    file = source.file
    bad = check_values(chunk)
    if bad is not None:
        row, column, value = bad
        cell, gene = file.cell_names(np.array([first + row]))[0], file.var.index[column]
        msg = f"{file.path}: the value of gene {gene!r} in cell {cell!r} is {value:g}; expression is finite and not negative."
        raise ValueError(msg)
    odd = cells_of_another_scale(chunk, source.scale)
    if len(odd):
        cell = file.cell_names(first + odd[:1])[0]
        msg = (
            f"{file.path} mixes scales: most cells hold {source.scale}, cell {cell!r} does not. Name a layer that holds counts "
            "for all cells, or write the cells to a file for each scale."
        )
        raise ValueError(msg)
