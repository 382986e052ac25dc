"""Genes that are hidden from a model, guessed."""

from ._leaky import leaky_rank_reconstruction
from ._reconstruct import rank_reconstruction

__all__ = ["leaky_rank_reconstruction", "rank_reconstruction"]
