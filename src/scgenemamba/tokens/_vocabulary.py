"""Vocabulary of gene tokens, and the way from a data set's columns into it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from ._genes import canonical_identifiers


class Vocabulary:
    """Ordered gene identifiers and their token ids.

    Ids follow the published GeneMamba tokenizer: 0 is ``[UNK]`` (never produced by our tokenizer),
    1 is ``[PAD]``, genes start at 2; ``[CLS]``, where a model uses it, comes after the last gene.
    ``[MASK]`` is a parameter of the encoder and has no id.

    Parameters
    ----------
    genes
        Gene identifiers in token order, unique.

    Raises
    ------
    ValueError
        If an identifier is repeated or empty.

    Examples
    --------
    >>> vocabulary = Vocabulary.from_names(["CD3E", "CD19", "CD3E"])
    >>> vocabulary.token_ids(["CD3E", "not a gene"])
    array([ 3, -1], dtype=int32)
    """

    UNK = 0
    PAD = 1
    FIRST_GENE = 2

    def __init__(self, genes: Iterable[str]) -> None:
        self.genes: npt.NDArray[np.object_] = np.array([str(gene) for gene in genes], dtype=object)
        self._ids = {gene: i for i, gene in enumerate(self.genes, start=self.FIRST_GENE)}
        if len(self._ids) < len(self.genes) or "" in self._ids:
            msg = "Gene identifiers of a vocabulary must be unique and not empty."
            raise ValueError(msg)

    @classmethod
    def from_names(cls, names: Iterable[object]) -> Vocabulary:
        """Vocabulary of the distinct names, sorted, so that it does not depend on their order."""
        return cls(sorted(set(canonical_identifiers(names)) - {""}))

    def __len__(self) -> int:
        return len(self.genes)

    def __repr__(self) -> str:
        return f"Vocabulary of {len(self)} genes"

    @property
    def n_tokens(self) -> int:
        """Number of ids: specials and genes, without ``[CLS]``."""
        return self.FIRST_GENE + len(self)

    @property
    def cls_id(self) -> int:
        """Id of ``[CLS]`` in models that use it."""
        return self.n_tokens

    def token_ids(self, names: Iterable[object]) -> npt.NDArray[np.int32]:
        """Token id of each name, shape ``(n_names,)``; -1 where the name is unknown."""
        return np.array([self._ids.get(name, -1) for name in canonical_identifiers(names)], dtype=np.int32)


def to_token_space(matrix: sp.csr_matrix, token_ids: npt.NDArray[np.int32], n_tokens: int) -> sp.csr_matrix:
    """Move the columns of an expression matrix to token ids.

    Parameters
    ----------
    matrix
        Linear (not logarithmic) values, CSR, shape ``(n_cells, n_features)``.
    token_ids
        Token id of each column, shape ``(n_features,)``; -1 leaves a column out, several columns with
        one id are summed.
    n_tokens
        Width of the result.

    Returns
    -------
    CSR matrix of float64, shape ``(n_cells, n_tokens)``, indices sorted, without stored zeros.
    """
    from . import _kernels

    indptr, columns, values = _kernels.parts_of(matrix)
    ends = np.zeros(len(indptr), dtype=np.int64)
    ids, moved = np.empty(len(columns), dtype=np.int32), np.empty(len(columns))
    n_digits = (n_tokens.bit_length() + 7) // 8
    _kernels.move_columns(indptr, columns, values, token_ids, n_digits, ends[1:], ids, moved)
    result = sp.csr_matrix((moved[: ends[-1]], ids[: ends[-1]], ends), shape=(matrix.shape[0], n_tokens))
    # known, and long to check
    result.has_canonical_format = True
    result.eliminate_zeros()
    return result


def values_of(counts: sp.csr_matrix, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """Values of some tokens, dense.

    Parameters
    ----------
    counts
        Values in token space, see :func:`to_token_space`.
    tokens
        Different token ids, shape ``(g,)``.

    Returns
    -------
    float32, shape ``(n_cells, g)``.
    """
    from . import _kernels

    column_of = np.full(counts.shape[1], -1, dtype=np.int32)
    column_of[tokens] = np.arange(len(tokens))
    values = np.zeros((counts.shape[0], len(tokens)), dtype=np.float32)
    _kernels.fill_columns(*_kernels.parts_of(counts), column_of, values)
    return values
