"""Everything that annotates an embedded cell, as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from ._calibration import fit_temperature, nonconformity, tempered, threshold
from ._features import CellFeatures, Floats
from ._heads import Heads
from ._neighbourhood import Neighbourhood, representatives
from ._novelty import Novelty
from ._novelty_scale import NoveltyScale

# In batches without labels: half of the misses allowed for are left to what votes cannot see.
_SHARE_OF_MISSES = 0.5
_PARTS = {"heads": Heads, "neighbourhood": Neighbourhood, "novelty": Novelty, "scale": NoveltyScale}
_SHAPES: Mapping[str, tuple[str | int, ...]] = {
    "heads.gene_weight": ("n_genes", "n_labels"),
    "heads.gene_bias": ("n_labels",),
    "heads.latent_weight": ("n_latent", "n_labels"),
    "heads.latent_bias": ("n_labels",),
    "neighbourhood.latent": ("n_voters", "n_latent"),
    "neighbourhood.own": ("n_voters", "n_labels"),
    "neighbourhood.probabilities": ("n_voters", "n_labels"),
    "neighbourhood.batch": ("n_voters",),
    "neighbourhood.temperature": ("n_batches",),
    "novelty.center": ("n_genes",),
    "novelty.components": ("n_genes", "n_components"),
    "novelty.means": ("n_means", "n_components"),
    "novelty.reference": ("n_reference", "n_latent"),
    "scale.medians": ("n_means", 2),
    "scale.spread": (2,),
    "scale.threshold": (),
    "scale.quartile": (),
    "scale.batches": ("n_shifted",),
    "scale.shifts": ("n_shifted",),
    "temperature": (),
    "scores": ("n_scores",),
    "scores_unlabelled": ("n_voters",),
}
_INTEGERS = ("neighbourhood.batch", "scale.batches")


@dataclass(frozen=True)
class Annotator:
    """Probabilities, prediction sets and novelty of cells.

    Attributes
    ----------
    heads
        Probabilities of each cell by itself.
    neighbourhood
        Votes in batches without labels.
    novelty, scale
        Distances to the labelled cells, and what they mean.
    temperature
        By which probabilities are calibrated, float64 ``()``.
    scores
        Nonconformity of the calibration cells, sorted, float32 ``(m,)``.
    scores_unlabelled
        The same of the voting cells of batches without labels, against the votes, in their order, float32 ``(a,)``.
    """

    heads: Heads
    neighbourhood: Neighbourhood
    novelty: Novelty
    scale: NoveltyScale
    temperature: npt.NDArray[np.float64]
    scores: Floats
    scores_unlabelled: Floats

    def probabilities(self, cells: CellFeatures) -> Floats:
        """Calibrated probabilities, float32 ``(n, n_labels)``."""
        return self.neighbourhood.vote(cells, self._own(cells))

    def sets(self, cells: CellFeatures, coverage: float) -> npt.NDArray[np.bool_]:
        """Prediction sets, bool ``(n, n_labels)``.

        In batches without labels the guarantee does not hold: their sets are never empty, and wide enough for a cell by
        itself to hold, for the share ``coverage`` and the labels that studies are assumed to disagree on, what its
        neighbours say.
        """
        own, probabilities = self._own(cells), self.probabilities(cells)
        inside = 1 - probabilities <= threshold(self.scores, coverage)
        shifted = np.isin(cells.batch, self.neighbourhood.batches)
        if shifted.any():
            wanted = 1 - (1 - coverage) * _SHARE_OF_MISSES
            best = probabilities == probabilities.max(axis=1, keepdims=True)
            for batch in np.unique(cells.batch[shifted]):
                votes = np.sort(self.scores_unlabelled[self.neighbourhood.batch == batch])
                wider = max(threshold(self.scores, wanted), threshold(votes, wanted))
                rows = cells.batch == batch
                inside[rows] = (1 - own[rows] <= wider) | best[rows]
        return inside

    def novelty_score(self, cells: CellFeatures) -> Floats:
        """Novelty, float32 ``(n,)``; above 1 a cell is less like the labelled cells than 95 % of them."""
        return self.scale.score(*self.novelty.distances(cells), cells.batch)

    def calibrated(self, cells: CellFeatures, labels: npt.NDArray[np.int64]) -> Annotator:
        """The same, with probabilities and sets calibrated on other labelled cells."""
        raw = self.heads.probabilities(cells)
        temperature = fit_temperature(raw, labels)
        neighbourhood = self.neighbourhood.retempered(temperature / float(self.temperature))
        return replace(
            self,
            temperature=np.array(temperature),
            scores=nonconformity(tempered(raw, temperature), labels),
            neighbourhood=neighbourhood,
            scores_unlabelled=neighbourhood.disagreement(),
        )

    def extended(self, cells: CellFeatures) -> Annotator:
        """The same, with the votes and the novelty shifts of further cells, all of batches without labels."""
        cells = cells[representatives(cells.batch)]
        if not len(cells):
            return self
        neighbourhood = Neighbourhood.fit(cells.latent, self._own(cells), cells.batch).beside(self.neighbourhood)
        scale = self.scale.shifted(*self.novelty.distances(cells), cells.batch)
        return replace(self, neighbourhood=neighbourhood, scale=scale, scores_unlabelled=neighbourhood.disagreement())

    def _own(self, cells: CellFeatures) -> Floats:
        return tempered(self.heads.probabilities(cells), float(self.temperature))

    def to_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """All arrays by name, parts as ``part.name``."""
        arrays: dict[str, npt.NDArray[np.generic]] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _PARTS:
                arrays |= {f"{field.name}.{part.name}": getattr(value, part.name) for part in fields(value)}
            else:
                arrays[field.name] = value
        return arrays

    def check(self, *, n_latent: int, n_labels: int, n_genes: int) -> None:
        """Refuse arrays that do not fit each other, the latent, the labels or the genes that are read.

        Raises
        ------
        ValueError
            Naming the array.
        """
        arrays = self.to_arrays()
        sizes = {"n_latent": n_latent, "n_labels": n_labels, "n_genes": n_genes}
        for name, dimensions in _SHAPES.items():
            array, kind = arrays[name], "integers" if name in _INTEGERS else "floats"
            # a size that is not given is that of the first array that has it
            if array.ndim == len(dimensions):
                sizes = {**{str(d): n for d, n in zip(dimensions, array.shape, strict=True)}, **sizes}
            shape = tuple(d if isinstance(d, int) else sizes.get(d, d) for d in dimensions)
            if array.shape != shape or array.dtype.kind != kind[0] or not np.isfinite(array).all():
                msg = f"{name} must be finite {kind} of shape {shape}, they are {array.dtype} of shape {array.shape}."
                raise ValueError(msg)
        holds = {
            "temperature": self.temperature > 0,
            "neighbourhood.temperature": (self.neighbourhood.temperature > 0).all()
            and len(self.neighbourhood.temperature) == len(self.neighbourhood.batches),
            "scale.spread": (self.scale.spread > 0).all(),
            "scores": (np.diff(self.scores) >= 0).all(),
            "novelty.means": len(self.novelty.means) > 0,
            "novelty.reference": len(self.novelty.reference) > 0,
        }
        for name, good in holds.items():
            if not good:
                msg = f"{name} holds values that no annotation has."
                raise ValueError(msg)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> Annotator:
        """Inverse of :meth:`to_arrays`.

        Raises
        ------
        ValueError
            If an array is missing or unknown.
        """
        known = {f"{name}.{field.name}" for name, part in _PARTS.items() for field in fields(part)}
        known |= {field.name for field in fields(cls) if field.name not in _PARTS}
        if set(arrays) != known:
            msg = f"The arrays of the annotation do not fit: {sorted(set(arrays) ^ known)}."
            raise ValueError(msg)
        parts = {
            name: part(**{field.name: arrays[f"{name}.{field.name}"] for field in fields(part)})
            for name, part in _PARTS.items()
        }
        own = {field.name: arrays[field.name] for field in fields(cls) if field.name not in _PARTS}
        return cls(**parts, **own)  # type: ignore[arg-type]
