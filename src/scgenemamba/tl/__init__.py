"""What one does with a trained model: results are written into the AnnData, or come as tables and as AnnData of their own."""

from ._annotate import annotate
from ._attribution import attribute, attributed_genes, attribution_check, gene_set_scores
from ._genes import gene_embeddings, gene_graph, gene_neighbors, gene_shifts, gene_similarity
from ._perturbation import perturb, perturbation_effects
from ._reconstruction import leaky_rank_reconstruction, rank_reconstruction

__all__ = [
    "annotate",
    "attribute",
    "attributed_genes",
    "attribution_check",
    "gene_embeddings",
    "gene_graph",
    "gene_neighbors",
    "gene_set_scores",
    "gene_shifts",
    "gene_similarity",
    "leaky_rank_reconstruction",
    "perturb",
    "perturbation_effects",
    "rank_reconstruction",
]
