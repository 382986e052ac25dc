"""What one does with a trained model; in scanpy's manner, results are written into the AnnData."""

from ._annotate import annotate
from ._gene_embeddings import gene_embeddings

__all__ = ["annotate", "gene_embeddings"]
