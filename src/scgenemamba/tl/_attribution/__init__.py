"""What each gene of a cell adds to a score."""

from ._attribute import attribute
from ._check import attribution_check
from ._gene_set_scores import gene_set_scores
from ._summary import attributed_genes

__all__ = ["attribute", "attributed_genes", "attribution_check", "gene_set_scores"]
