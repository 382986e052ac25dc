"""Annotation: labels, probabilities, prediction sets and novelty of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scvi import settings

from scgenemamba._logging import logger
from scgenemamba.train import MAX_LABELLED, Annotator, CellFeatures, balanced_order, fit_annotator, unlabelled_batches

from ._constants import BATCH_KEY, LABELS_KEY, X_KEY
from ._source import spread
from ._validate import name_some

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt
    from anndata import AnnData
    from torch.utils.data import DataLoader

    from scgenemamba.nn import Encoded
    from scgenemamba.tokens import CellBatch

#: Most variable genes whose expression the annotation reads.
_N_GENES = 2_000
_TARGET_SUM = 1e4
#: Cells of a batch without labels that take part in its votes.
_MAX_VOTERS = 10_000
#: Cells without a label that show what else there is.
_MAX_OTHERS = 5_000
_CELLS_AT_A_TIME = 10_000


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
            If the model was set up without labels.
        """
        labels = self.labels
        if not labels:
            msg = "The model has no labels: set up the AnnData with `labels_key=` and train again."
            raise ValueError(msg)
        if self.annotation_:
            found = map(self._annotator().probabilities, self._features(adata, indices, batch_size, dataloader))
            probabilities = np.concatenate(list(found))
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
        {cite:p}`Sadinle2019`. An empty set says that no label is likely enough. For batches of the training data without
        labels there is no guarantee: their sets are made wider and are never empty.

        Parameters
        ----------
        adata, indices, batch_size, dataloader
            As in :meth:`get_latent_representation`.
        coverage
            Share of cells whose set is to hold their label, between 0 and 1.

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
        cells = self._features(adata, indices, batch_size, dataloader)
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
        scores = map(self._annotator().novelty_score, self._features(adata, indices, batch_size, dataloader))
        return np.concatenate(list(scores))

    def fit_annotation(
        self, adata: AnnData | None = None, labels_key: str | None = None, indices: Sequence[int] | None = None
    ) -> None:
        """Fit the annotation anew on the embedding as it is, for other cells or other labels; takes seconds.

        Parameters
        ----------
        adata
            Cells, ``None`` for the training data.
        labels_key
            Column of ``adata.obs``, ``None`` for the one of setup. Missing values and the unlabeled category mean "no
            label". The labels may be others than those of setup.
        indices
            Cells whose labels are used, ``None`` for all; the others count as unlabelled.

        Raises
        ------
        KeyError
            If there is no such column.
        ValueError
            If no cell has a label.
        """
        adata = self._validate_anndata(adata)
        codes, names = self._labels_of(adata, labels_key)
        if indices is not None:
            shown = np.zeros(adata.n_obs, dtype=bool)
            shown[np.asarray(indices)] = True
            codes = np.where(shown, codes, -1)
        if not (codes >= 0).any():
            msg = f"No cell of obs[{labels_key!r}] has a label: there is nothing to fit."
            raise ValueError(msg)
        self._fit_annotation(adata, codes, names)

    def calibrate(self, adata: AnnData | None = None, indices: Sequence[int] | None = None) -> None:
        """Calibrate probabilities and prediction sets on labelled cells that the model was not trained on.

        Parameters
        ----------
        adata, indices
            Cells, with labels in the column of setup; those without are left out.

        Raises
        ------
        ValueError
            If no cell has a label that the model knows, or the model has no annotation.
        """
        annotator = self._annotator()
        adata = self._validate_anndata(adata)
        codes, names = self._labels_of(adata, None)
        known = {name: code for code, name in enumerate(self.labels)}
        codes = np.array([known.get(names[code], -1) if code >= 0 else -1 for code in codes], dtype=np.int64)
        rows = np.arange(adata.n_obs) if indices is None else np.asarray(indices)
        rows = rows[codes[rows] >= 0]
        if not len(rows):
            msg = f"No cell has a label that the model knows: it knows {name_some(self.labels)}."
            raise ValueError(msg)
        self.annotation_ = annotator.calibrated(self._all_features(adata, rows), codes[rows]).to_arrays()

    def _annotator(self) -> Annotator:
        if not self.annotation_:
            msg = (
                "The model has no calibrated annotation: train it with labels, or fit one to labelled cells, "
                "`model.fit_annotation(adata, labels_key=)`."
            )
            raise ValueError(msg)
        return Annotator.from_arrays(self.annotation_)

    def _annotate_after_training(self) -> None:
        """Fit the annotation to the training data, or if the encoder is that of a reference, let new batches vote."""
        codes, names = self._labels_of(self.adata, None)
        learnt = any(parameter.requires_grad for parameter in self.module.network.parameters())
        if self.annotation_ and not learnt:
            batches = self.adata.obs[f"_scvi_{BATCH_KEY}"].to_numpy()
            rows = _voters(batches, unlabelled_batches(batches, codes))
            if len(rows):
                self.annotation_ = self._annotator().extended(self._all_features(self.adata, rows)).to_arrays()
        elif (codes >= 0).any():
            self._fit_annotation(self.adata, codes, names)

    def _fit_annotation(self, adata: AnnData, codes: npt.NDArray[np.int64], names: list[Any]) -> None:
        labelled = np.flatnonzero(codes >= 0)
        rows = labelled[balanced_order(codes[labelled], int(settings.seed or 0))][:MAX_LABELLED]
        batches = adata.obs[f"_scvi_{BATCH_KEY}"].to_numpy()
        others = np.flatnonzero(codes < 0)
        some = others[spread(len(others), _MAX_OTHERS)]
        rows = np.unique(np.concatenate([rows, some, _voters(batches, unlabelled_batches(batches, codes))]))
        held_out = np.zeros(adata.n_obs, dtype=bool)
        unseen = getattr(self, "validation_indices", None)
        if adata is self.adata and unseen is not None:
            held_out[unseen] = True
        logger.info(f"Fitting the annotation to {len(names)} labels of {min(len(labelled), MAX_LABELLED):,} cells.")
        features = self._all_features(adata, rows)
        self.annotation_ = fit_annotator(
            features, codes[rows], len(names), held_out=held_out[rows], seed=int(settings.seed or 0)
        ).to_arrays()
        self.annotation_labels_ = list(names)

    def _labels_of(self, adata: AnnData, labels_key: str | None) -> tuple[npt.NDArray[np.int64], list[Any]]:
        """Label code of each cell, negative without one, and the labels."""
        state = self._state_of(LABELS_KEY)
        key = state.get("original_key") if labels_key is None else labels_key
        unlabeled = state.get("unlabeled_category", "Unknown")
        if labels_key is None and f"_scvi_{LABELS_KEY}" in adata.obs:
            names = list(state["categorical_mapping"][:-1])
            codes = adata.obs[f"_scvi_{LABELS_KEY}"].to_numpy().astype(np.int64)
            return np.where(codes < len(names), codes, -1), names
        if key not in adata.obs:
            msg = f"{key} not found in adata.obs (labels_key); it has {list(adata.obs.columns)}."
            raise KeyError(msg)
        column = adata.obs[key]
        column = pd.Categorical(column.where(column != unlabeled)).remove_unused_categories()
        return column.codes.astype(np.int64), list(column.categories)

    def _all_features(self, adata: AnnData, rows: npt.NDArray[np.integer]) -> CellFeatures:
        return CellFeatures.joined(list(self._features(adata, rows)))

    def _features(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | npt.NDArray[np.integer] | None = None,
        batch_size: int | None = None,
        dataloader: DataLoader[CellBatch] | Iterator[CellBatch] | None = None,
    ) -> Iterator[CellFeatures]:
        """Latent, expression and batch of cells, some thousands at a time."""
        waiting: list[CellFeatures] = []
        for encoded, batch in self._encoded(adata, indices, batch_size, dataloader, also=(X_KEY, BATCH_KEY)):
            waiting.append(_features_of(encoded, batch))
            if sum(map(len, waiting)) >= _CELLS_AT_A_TIME:
                yield CellFeatures.joined(waiting)
                waiting = []
        if waiting:
            yield CellFeatures.joined(waiting)

    def _names(self, adata: AnnData | None, indices: Sequence[int] | None, dataloader: Any) -> pd.Index | None:
        if dataloader is not None:
            return None
        names = (self.adata if adata is None else adata).obs_names
        return names if indices is None else names[np.asarray(indices)]


def _features_of(encoded: Encoded, batch: CellBatch) -> CellFeatures:
    if "expression" not in batch:
        msg = "Annotation reads the expression of genes, which the batches of `dataloader` lack."
        raise ValueError(msg)
    scaled = batch["expression"][:, :_N_GENES] / batch["total"].clamp(min=1e-8) * _TARGET_SUM
    codes = batch["batch"].squeeze(-1).numpy() if "batch" in batch else np.full(len(scaled), -1)
    return CellFeatures(encoded.mean.float().cpu().numpy(), sp.csr_matrix(scaled.log1p().numpy()), codes)


def _voters(batches: npt.NDArray[np.int64], without: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Cells of the batches without labels, evenly spread where there are many."""
    parts = [np.flatnonzero(batches == batch) for batch in without]
    return np.concatenate([np.arange(0), *(part[spread(len(part), _MAX_VOTERS)] for part in parts)])
