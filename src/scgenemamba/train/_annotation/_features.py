"""What annotation reads of a cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Floats = npt.NDArray[np.float32]
#: What the expression of a cell is scaled to.
TARGET_SUM = 1e4
_LARGEST_SHARE = 0.9


@dataclass(frozen=True)
class CellFeatures:
    """Features of cells.

    Attributes
    ----------
    latent
        Latent means, float32 ``(n, n_latent)``.
    values
        ``log1p`` of the expression of the decoder's genes scaled to 10,000 per cell, float32 ``(n, g)``.
    batch
        Batch codes, int64 ``(n,)``; negative where the batch is not known.
    """

    latent: Floats
    values: sp.csr_matrix
    batch: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.latent)

    def __getitem__(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> CellFeatures:
        return CellFeatures(self.latent[rows], self.values[rows], self.batch[rows])

    def filled(self, lacking: npt.NDArray[np.bool_], means: Floats) -> CellFeatures:
        """The same, with means for the genes ``(g,)`` that were not measured: their zeros say nothing.

        The other genes give up the share of the cells' expression that these are expected to have.
        """
        if not lacking.any():
            return self
        columns = np.flatnonzero(lacking)
        share = min(float(np.expm1(means[columns]).sum()) / TARGET_SUM, _LARGEST_SHARE)
        values = self.values.copy()
        values.data = np.log1p((1 - share) * np.expm1(values.data))
        row = sp.csr_matrix((means[columns], columns, [0, len(columns)]), shape=(1, len(lacking)))
        everywhere = sp.csr_matrix(np.ones((len(self), 1), dtype=np.float32)) @ row
        return CellFeatures(self.latent, (values + everywhere).astype(np.float32), self.batch)

    @classmethod
    def joined(cls, parts: Sequence[CellFeatures]) -> CellFeatures:
        """Features of all cells of the parts, one after the other."""
        values = sp.vstack([part.values for part in parts], format="csr")
        latent, batch = (np.concatenate([getattr(part, name) for part in parts]) for name in ("latent", "batch"))
        return cls(latent, values, batch)
