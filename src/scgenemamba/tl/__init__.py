"""What one does with a trained model; in scanpy's manner, results are written into the AnnData."""

from ._annotate import annotate

__all__ = ["annotate"]
