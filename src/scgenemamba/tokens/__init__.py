"""From expression matrices to rank tokens: vocabulary, factors, value scale, tokenizer."""

from ._collate import CellBatch, to_tensors
from ._expression import Scale, check_values, counts_from, infer_scale
from ._genes import canonical_identifiers
from ._medians import nonzero_medians
from ._tokenizer import RankedCells, RankTokenizer
from ._vocabulary import Vocabulary, to_token_space, values_of

__all__ = [
    "CellBatch",
    "RankTokenizer",
    "RankedCells",
    "Scale",
    "Vocabulary",
    "canonical_identifiers",
    "check_values",
    "counts_from",
    "infer_scale",
    "nonzero_medians",
    "to_tensors",
    "to_token_space",
    "values_of",
]
