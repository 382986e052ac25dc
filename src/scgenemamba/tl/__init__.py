"""What one does with a trained model; in scanpy's manner, results are written into the AnnData."""

from ._annotate import annotate
from ._attribution import attribute
from ._attribution_check import attribution_check
from ._attribution_summary import attributed_genes
from ._gene_embeddings import gene_embeddings
from ._gene_graph import gene_graph
from ._gene_neighbors import gene_neighbors, gene_similarity
from ._gene_set_scores import gene_set_scores
from ._gene_shifts import gene_shifts
from ._leaky_reconstruction import leaky_rank_reconstruction
from ._perturbation import perturb, perturbation_effects
from ._reconstruction import rank_reconstruction

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
