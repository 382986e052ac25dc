"""Genes as a model embeds them, and how they are alike."""

from ._embeddings import gene_embeddings
from ._graph import gene_graph
from ._neighbors import gene_neighbors, gene_similarity
from ._shifts import gene_shifts

__all__ = ["gene_embeddings", "gene_graph", "gene_neighbors", "gene_shifts", "gene_similarity"]
