"""Annotation: labels, probabilities, prediction sets and novelty of cells."""

from __future__ import annotations

import math
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scvi import settings

from scgenemamba.train import TARGET_SUM, Annotator, CellFeatures

from ._constants import ANNOTATION_GENES, BATCH_KEY, LABELS_KEY, VARIABLE_GENES, X_KEY
from ._registration import lacks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt
    from anndata import AnnData
    from torch.utils.data import DataLoader

    from scgenemamba.nn import Encoded
    from scgenemamba.tokens import CellBatch

_CELLS_AT_A_TIME = 10_000


class CellAnnotation(NamedTuple):
    """All that a model says of cells, from one pass over them; tables of cells by labels."""

    probabilities: pd.DataFrame
    sets: pd.DataFrame
    novelty: npt.NDArray[np.float32]
    latent: npt.NDArray[np.float32]


class AnnotationMixin:
    """Cell types; mixed into :class:`~scgenemamba.GeneMambaModel`.

    After training, logistic regressions are fitted on the latent and on the expression of the variable genes, calibrated on
    cells that were held out, and kept with the model as arrays.
    """

    # supplied by the model
    module: Any
    adata: Any
    registry_: dict[str, Any]
    published_classes_: list[str]
    annotation_: dict[str, npt.NDArray[np.generic]]
    annotation_labels_: list[Any]
    _per_cell: Callable[..., np.ndarray]
    _encoded: Callable[..., Iterator[tuple[Encoded, CellBatch]]]
    _validate_anndata: Callable[..., AnnData]
    get_anndata_manager: Callable[..., Any]
    _state_of: Callable[[str], dict[str, Any]]

    @property
    def labels(self) -> list[Any]:
        """Labels that the model predicts, without the unlabeled category; empty if there are none."""
        if self.annotation_:
            return list(self.annotation_labels_)
        return self.network_labels

    @property
    def network_labels(self) -> list[Any]:
        """Labels that the network's own classifier tells, without a fitted annotation; empty if it has none."""
        if "cell_type" in self.module.objectives:
            return list(self._state_of(LABELS_KEY)["categorical_mapping"][:-1])
        return list(self.published_classes_)

    def predict(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        soft: bool = False,
        batch_size: int | None = None,
        dataloader: DataLoader[CellBatch] | Iterator[CellBatch] | None = None,
    ) -> np.ndarray | pd.DataFrame:
        """Predict cell types, with the arguments and returns of :meth:`scvi.model.SCANVI.predict`.

        A cell's prediction depends on the cell alone; only in batches of the training data that had no labels, it also
        depends on the cells of that batch that the model was trained on.

        Parameters
        ----------
        adata, indices, batch_size, dataloader
            As in :meth:`get_latent_representation`.
        soft
            Return probabilities instead of labels; they are calibrated on held-out cells of the training data.

        Returns
        -------
        Labels, shape ``(n_cells,)``; or with ``soft=True`` a table of cells by labels.

        Raises
        ------
        ValueError
            If the model has no labels.
        """
        labels = self.labels
        if not labels:
            msg = (
                "The model has no labels: set up the AnnData with `labels_key=` and train again, or fit an annotation to "
                "labelled cells, `model.fit_annotation(adata, labels_key=)`."
            )
            raise ValueError(msg)
        if self.annotation_:
            annotator = self._annotator()
            cells = self._features(adata, indices, batch_size, dataloader, annotator)
            probabilities = np.concatenate([annotator.probabilities(some) for some in cells])
        else:
            probabilities = self._per_cell(self.module.classify, adata, indices, batch_size, dataloader)
        if not soft:
            return np.asarray(labels)[probabilities.argmax(1)]
        return pd.DataFrame(probabilities, columns=labels, index=self._names(adata, indices, dataloader))

    def predict_sets(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        coverage: float = 0.9,
        batch_size: int | None = None,
        dataloader: DataLoader[CellBatch] | Iterator[CellBatch] | None = None,
    ) -> pd.DataFrame:
        """Sets of labels that hold the true one with a given probability (split conformal prediction).

        The guarantee is for cells like the held-out ones of the training data, whatever the model: there a share
        ``coverage`` of the sets holds the label, with a spread that the number of calibration cells allows
        (Sadinle et al. 2019, JASA 114:223). An empty set says that no label is likely enough. For batches of the training data without
        labels there is no guarantee: their sets are made wider and are never empty.

        Parameters
        ----------
        adata, indices, batch_size, dataloader
            As in :meth:`get_latent_representation`.
        coverage
            Share of cells whose set is to hold their label, between 0 and 1. A share ``c`` takes ``c / (1 - c)``
            calibration cells; with fewer, every set holds all labels, and a warning says so.

        Returns
        -------
        Table of cells by labels, bool.

        Raises
        ------
        ValueError
            If the model is not calibrated, or ``coverage`` is not between 0 and 1.
        """
        if not 0 < coverage < 1:
            msg = f"`coverage` must be between 0 and 1, got {coverage!r}."
            raise ValueError(msg)
        annotator = self._annotator()
        _warn_of_full_sets(annotator, coverage)
        cells = self._features(adata, indices, batch_size, dataloader, annotator)
        sets = np.concatenate([annotator.sets(some, coverage) for some in cells])
        return pd.DataFrame(sets, columns=self.labels, index=self._names(adata, indices, dataloader))

    def novelty_score(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
        dataloader: DataLoader[CellBatch] | Iterator[CellBatch] | None = None,
    ) -> np.ndarray:
        """How unlike the labelled training cells each cell is.

        All cells of another study are a little unlike them: for batches of the training data that had no labels, what the
        study adds to the quarter of its cells that is least unlike is taken off, within bounds.

        Parameters
        ----------
        adata, indices, batch_size, dataloader
            As in :meth:`get_latent_representation`.

        Returns
        -------
        float32, shape ``(n_cells,)``; above 1 a cell is less like the labelled cells than 95 % of them are.

        Raises
        ------
        ValueError
            If the model is not calibrated.
        """
        annotator = self._annotator()
        cells = self._features(adata, indices, batch_size, dataloader, annotator)
        return np.concatenate([annotator.novelty_score(some) for some in cells])

    def _annotated(self, adata: AnnData, *, coverage: float, batch_size: int | None = None) -> CellAnnotation:
        """Probabilities, sets, novelty and latent of all cells, which are read once."""
        annotator, parts = self._annotator(), []
        _warn_of_full_sets(annotator, coverage)
        for cells in self._features(adata, batch_size=batch_size, annotator=annotator):
            said = annotator.probabilities(cells), annotator.sets(cells, coverage), annotator.novelty_score(cells)
            parts.append((*said, cells.latent))
        probabilities, sets, novelty, latent = (np.concatenate(part) for part in zip(*parts, strict=True))
        table = partial(pd.DataFrame, columns=self.labels, index=adata.obs_names)
        return CellAnnotation(table(probabilities), table(sets), novelty, latent)

    def _annotator(self) -> Annotator:
        if not self.annotation_:
            msg = (
                "The model has no calibrated annotation: train it with labels, or fit one to labelled cells, "
                "`model.fit_annotation(adata, labels_key=)`."
            )
            raise ValueError(msg)
        return Annotator.from_arrays(self.annotation_)

    def _features(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | npt.NDArray[np.integer] | None = None,
        batch_size: int | None = None,
        dataloader: DataLoader[CellBatch] | Iterator[CellBatch] | None = None,
        annotator: Annotator | None = None,
    ) -> Iterator[CellFeatures]:
        """Latent, expression and batch of cells, some thousands at a time.

        Genes that the cells lack get the means of the labelled cells of ``annotator``.
        """
        batches = self._encoded(adata, indices, batch_size, dataloader, also=(X_KEY, BATCH_KEY))
        waiting: list[CellFeatures] = []
        for encoded, batch in batches:
            waiting.append(_features_of(encoded, batch))
            if sum(map(len, waiting)) >= _CELLS_AT_A_TIME:
                yield self._joined(waiting, adata, dataloader, annotator)
                waiting = []
        if waiting:
            yield self._joined(waiting, adata, dataloader, annotator)

    def _joined(
        self, parts: list[CellFeatures], adata: AnnData | None, dataloader: Any, annotator: Annotator | None
    ) -> CellFeatures:
        cells = CellFeatures.joined(parts)
        if annotator is None or dataloader is not None:
            return cells
        genes = self._state_of(X_KEY)[VARIABLE_GENES][:ANNOTATION_GENES]
        lacking = lacks(self.adata if adata is None else adata, self.registry_, genes)
        return cells.filled(lacking, annotator.novelty.center)

    def _names(self, adata: AnnData | None, indices: Sequence[int] | None, dataloader: Any) -> pd.Index | None:
        if dataloader is not None:
            return None
        names = (self.adata if adata is None else adata).obs_names
        return names if indices is None else names[np.asarray(indices)]


def _warn_of_full_sets(annotator: Annotator, coverage: float) -> None:
    n = len(annotator.scores)
    if math.ceil((n + 1) * coverage) > n:
        # 0.9 / (1 - 0.9) is a little more than 9
        needed = math.ceil(round(coverage / (1 - coverage), 6))
        msg = (
            f"A coverage of {coverage:g} takes {needed:,} calibration cells, there are {n:,}: every set holds all labels. "
            "Lower `coverage`, or calibrate on more cells, `model.calibrate(adata)`."
        )
        warnings.warn(msg, UserWarning, stacklevel=settings.warnings_stacklevel)


def _features_of(encoded: Encoded, batch: CellBatch) -> CellFeatures:
    if "expression" not in batch:
        msg = "Annotation reads the expression of genes, which the batches of `dataloader` lack: give `adata=` instead."
        raise ValueError(msg)
    scaled = batch["expression"][:, :ANNOTATION_GENES] / batch["total"].clamp(min=1e-8) * TARGET_SUM
    codes = batch["batch"].squeeze(-1).numpy() if "batch" in batch else np.full(len(scaled), -1)
    return CellFeatures(encoded.mean.float().cpu().numpy(), sp.csr_matrix(scaled.log1p().numpy()), codes)
