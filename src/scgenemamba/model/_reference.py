"""Genes and factors of a pretrained model, to which data are registered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scgenemamba.tokens import Vocabulary, nonzero_medians

from ._constants import FACTORS_SOURCE, GENES, MEDIANS, MIN_COUNTS_SHARE, RANK_MODE

if TYPE_CHECKING:
    import scipy.sparse as sp

    from ._checkpoint import Preprocessing


@dataclass(frozen=True)
class GeneReference:
    """What data registered to a pretrained model take from it.

    Attributes
    ----------
    vocabulary
        Genes in token order.
    preprocessing
        How cells become tokens.
    min_counts_share
        Share of a data set's counts that must belong to genes of the vocabulary.
    without_data
        The cells are a stand-in for data that are yet to come.
    """

    vocabulary: Vocabulary
    preprocessing: Preprocessing
    min_counts_share: float
    without_data: bool = False

    def state(self, sample: sp.csr_matrix) -> dict[str, Any]:
        """Entries of the registry; factors that are not known are estimated from cells in token space."""
        factors, source = self.preprocessing.factors, self.preprocessing.factors_source
        if factors is None:
            factors, source = estimate_factors(sample)
        return {
            GENES: self.vocabulary.genes,
            MEDIANS: factors,
            RANK_MODE: self.preprocessing.rank_mode,
            FACTORS_SOURCE: source,
            MIN_COUNTS_SHARE: self.min_counts_share,
        }


def estimate_factors(sample: sp.csr_matrix) -> tuple[npt.NDArray[np.float64], str]:
    """Factors of the genes of a vocabulary, and where they come from in words.

    Genes that no cell expresses get the median of the others, so that they count in later data; if no cell
    expresses any, all are NaN: to be estimated from the first data.

    Parameters
    ----------
    sample
        Linear values in token space, shape ``(n_cells, n_tokens)``.
    """
    medians = nonzero_medians(sample)[Vocabulary.FIRST_GENE :]
    known = np.isfinite(medians)
    if not known.any():
        return medians, ""
    medians[~known] = np.median(medians[known])
    return medians, f"estimated from {sample.shape[0]} cells of the data; {int((~known).sum())} genes not among them"


def are_missing(state: dict[str, Any]) -> bool:
    """Whether the factors of a registry are yet to be estimated."""
    return state.get(RANK_MODE, "median") == "median" and not np.isfinite(state[MEDIANS]).any()
