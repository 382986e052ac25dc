"""How unlike the labelled cells a cell is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ._features import CellFeatures, Floats

_N_COMPONENTS = 50
_N_NEIGHBOURS = 50
_MAX_REFERENCE = 5_000
# share of the average variance added to the covariance within labels
_SHRINKAGE = 1e-4


@dataclass(frozen=True)
class Novelty:
    """Two distances of a cell to the labelled ones: in principal components of expression, and in the latent.

    The first is the Mahalanobis distance to the nearest label (Lee et al. 2018), the second that to the 50th
    nearest labelled cell. Expression tells types apart that share a place in the latent, the latent types
    that differ in few genes.

    Attributes
    ----------
    center, components
        Of the values, float32 ``(g,)`` and ``(g, c)``; whitened by the covariance within labels.
    means
        Mean of each label in those components, float32 ``(n_labels, c)``; labels without cells are left out.
    reference
        Latents of labelled cells, float32 ``(r, n_latent)``.
    """

    center: Floats
    components: Floats
    means: Floats
    reference: Floats

    @classmethod
    def fit(cls, cells: CellFeatures, labels: npt.NDArray[np.int64], everyone: CellFeatures) -> Novelty:
        """Fit to labelled cells; the components are those of ``everyone``, so that they also show what is unlike these."""
        from sklearn.decomposition import TruncatedSVD

        center = np.asarray(cells.values.mean(axis=0), dtype=np.float32).ravel()
        n_components = max(1, min(_N_COMPONENTS, min(everyone.values.shape) - 1))
        svd = TruncatedSVD(n_components, random_state=0).fit(everyone.values)
        components = svd.components_.T.astype(np.float32)
        scores = np.asarray(cells.values @ components) - center @ components
        present, codes = np.unique(labels, return_inverse=True)
        means = np.stack([scores[codes == code].mean(axis=0) for code in range(len(present))])
        rest = (scores - means[codes]).astype(np.float64)
        # of a single cell there is no variance
        within = rest.T @ rest / max(len(rest) - 1, 1)
        within += (_SHRINKAGE * np.trace(within) / n_components + 1e-6) * np.eye(n_components)
        whiten = np.linalg.cholesky(np.linalg.inv(within)).astype(np.float32)
        rows = np.linspace(0, len(cells) - 1, min(len(cells), _MAX_REFERENCE)).round().astype(int)
        return cls(center, components @ whiten, (means @ whiten).astype(np.float32), cells.latent[rows])

    def distances(self, cells: CellFeatures) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Logarithms of both distances, float32 ``(n, 2)``, and which of ``means`` is the nearest, int64 ``(n,)``."""
        from sklearn.neighbors import NearestNeighbors

        scores = np.asarray(cells.values @ self.components) - self.center @ self.components
        # label by label: all differences at once would be large
        squared = np.stack([((scores - mean) ** 2).sum(axis=1) for mean in self.means], axis=1)
        n_neighbours = min(_N_NEIGHBOURS, len(self.reference))
        found = NearestNeighbors(n_neighbors=n_neighbours).fit(self.reference).kneighbors(cells.latent)[0]
        both = np.stack([np.sqrt(squared.min(axis=1)), found[:, -1]], axis=1)
        return np.log(np.maximum(both, 1e-6)).astype(np.float32), squared.argmin(axis=1)
