"""From expression matrices to rank tokens: vocabulary, factors, value scale, tokenizer."""

from ._cell_prints import CellPrints, print_cells
from ._collate import CellBatch, to_tensors
from ._expression import Scale, cells_of_another_scale, check_values, counts_from, infer_scale
from ._factors import read_factors
from ._gene_map import GeneMap, map_genes
from ._gene_names import gene_names, name_some
from ._gene_pairs import pairs_of_coexpression, pairs_of_sets, tokens_of_sets
from ._gene_report import GeneReport, check_coverage
from ._gene_sets import GeneSets, read_gene_sets
from ._genes import canonical_identifiers
from ._median_sketch import MedianSketch
from ._medians import nonzero_medians
from ._official import official_downstream
from ._species import guess_species
from ._tokenizer import RankedCells, RankTokenizer
from ._tokenizer_json import read_tokenizer_json, write_tokenizer_json
from ._vocabulary import Vocabulary, to_token_space, values_of

__all__ = [
    "CellBatch",
    "CellPrints",
    "GeneMap",
    "GeneReport",
    "GeneSets",
    "MedianSketch",
    "RankTokenizer",
    "RankedCells",
    "Scale",
    "Vocabulary",
    "canonical_identifiers",
    "cells_of_another_scale",
    "check_coverage",
    "check_values",
    "counts_from",
    "gene_names",
    "guess_species",
    "infer_scale",
    "map_genes",
    "name_some",
    "nonzero_medians",
    "official_downstream",
    "pairs_of_coexpression",
    "pairs_of_sets",
    "print_cells",
    "read_factors",
    "read_gene_sets",
    "read_tokenizer_json",
    "to_tensors",
    "to_token_space",
    "tokens_of_sets",
    "values_of",
    "write_tokenizer_json",
]
