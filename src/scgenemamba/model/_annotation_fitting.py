"""Fitting the annotation: after training, to other labels, to other cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scvi import settings

from scgenemamba._logging import logger
from scgenemamba.tokens import name_some
from scgenemamba.train import (
    Annotator,
    CellFeatures,
    choose_labelled,
    fit_across_studies,
    fit_annotator,
    unlabelled_batches,
)

from ._constants import BATCH_KEY, LABELS_KEY
from ._source import spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt
    from anndata import AnnData

# Cells of batches without labels that take part in the votes: of each, and of all as long as each has the fewest.
_MAX_VOTERS = 10_000
_MAX_VOTERS_IN_ALL = 50_000
_FEWEST_VOTERS = 1_000
# Cells without a label that show what else there is.
_MAX_OTHERS = 5_000


class AnnotationFittingMixin:
    """Fitting and calibrating the annotation; mixed into :class:`~scgenemamba.GeneMambaModel`."""

    # supplied by the model
    module: Any
    adata: Any
    labels: Any
    latent_trained_: bool
    annotation_: dict[str, npt.NDArray[np.generic]]
    annotation_labels_: list[Any]
    _annotator: Callable[[], Annotator]
    _features: Callable[..., Iterator[CellFeatures]]
    _validate_anndata: Callable[..., AnnData]
    _state_of: Callable[[str], dict[str, Any]]

    def fit_annotation(
        self,
        adata: AnnData | None = None,
        labels_key: str | None = None,
        indices: Sequence[int] | None = None,
        across_studies: bool = False,
    ) -> None:
        """Fit the annotation anew on the embedding as it is, for other cells or other labels; takes seconds.

        The usual fit is for cells like the training cells, and lets the cells of batches without labels vote on theirs. With
        ``across_studies`` it is for studies to come, as in a model that is given to others: batches are
        studies, those without labels teach as well, by the labels that their cells are likely to have, and each study is in turn
        left out to calibrate probabilities, sets and novelty.

        Parameters
        ----------
        adata
            Cells, ``None`` for the training data.
        labels_key
            Column of ``adata.obs``, ``None`` for the one of setup. Missing values and the unlabeled category mean "no
            label". The labels may be others than those of setup.
        indices
            Cells whose labels are used, ``None`` for all; the others count as unlabelled.
        across_studies
            Fit for other studies. All cells have to be of the kinds that have labels, whether they have one or not.

        Raises
        ------
        KeyError
            If there is no such column.
        ValueError
            If no cell has a label, or the latent was never trained.
        """
        if not self.latent_trained_:
            msg = "The annotation reads the latent, which was never trained: train the model first."
            raise ValueError(msg)
        adata = self._validate_anndata(adata)
        codes, names = self._labels_of(adata, labels_key)
        if indices is not None:
            shown = np.zeros(adata.n_obs, dtype=bool)
            shown[np.asarray(indices)] = True
            codes = np.where(shown, codes, -1)
        if not (codes >= 0).any():
            msg = f"No cell has a label in {_column(labels_key)}: name a column that has some, `labels_key=`."
            raise ValueError(msg)
        self._fit_annotation(adata, codes, names, across_studies=across_studies)

    def calibrate(
        self, adata: AnnData | None = None, indices: Sequence[int] | None = None, labels_key: str | None = None
    ) -> None:
        """Calibrate probabilities and prediction sets on labelled cells that the model was not trained on.

        Parameters
        ----------
        adata, indices
            Cells; those without a label that the model knows are left out.
        labels_key
            Column of ``adata.obs`` with their labels, ``None`` for the one of setup.

        Raises
        ------
        KeyError
            If there is no such column.
        ValueError
            If no cell has a label that the model knows, or the model has no annotation.
        """
        annotator = self._annotator()
        adata = self._validate_anndata(adata)
        codes, names = self._labels_of(adata, labels_key)
        known = {name: code for code, name in enumerate(self.labels)}
        code_of = np.array([*(known.get(name, -1) for name in names), -1], dtype=np.int64)
        codes = code_of[codes]
        rows = np.arange(adata.n_obs) if indices is None else np.arange(adata.n_obs)[np.asarray(indices)]
        rows = rows[codes[rows] >= 0]
        if not len(rows):
            msg = (
                f"No cell has a label that the model knows in {_column(labels_key)}: it knows {name_some(self.labels)}. "
                "Name the column that has them, `labels_key=`."
            )
            raise ValueError(msg)
        features = CellFeatures.joined(list(self._features(adata, rows, annotator=annotator)))
        self.annotation_ = annotator.calibrated(features, codes[rows]).to_arrays()

    def _annotate_after_training(self, *, registered: bool) -> None:
        """Fit the annotation to the training data, or if the encoder is that of a reference, let new batches vote.

        ``registered`` says that training was on the registered data.
        """
        learnt = any(parameter.requires_grad for parameter in self.module.network.parameters())
        codes, names = self._labels_of(self.adata, None) if registered else (np.arange(0), [])
        if self.annotation_ and not learnt:
            if registered:
                self._let_vote(codes)
        elif (codes >= 0).any():
            self._fit_annotation(self.adata, codes, names)
        elif self.annotation_:
            self.annotation_, self.annotation_labels_ = {}, []
            logger.warning(
                "Training has changed the embedding, and its data have no labels: the annotation is dropped. "
                "Fit it anew to labelled cells, `model.fit_annotation(adata, labels_key=)`."
            )

    def _let_vote(self, codes: npt.NDArray[np.int64]) -> None:
        batches = self.adata.obs[f"_scvi_{BATCH_KEY}"].to_numpy()
        rows = _voters(batches, unlabelled_batches(batches, codes))
        if len(rows):
            annotator = self._annotator()
            features = CellFeatures.joined(list(self._features(self.adata, rows, annotator=annotator)))
            self.annotation_ = annotator.extended(features).to_arrays()

    def _fit_annotation(
        self, adata: AnnData, codes: npt.NDArray[np.int64], names: list[Any], *, across_studies: bool = False
    ) -> None:
        seed = int(settings.seed or 0)
        held_out = np.zeros(adata.n_obs, dtype=bool)
        if adata is self.adata:
            for split in ("validation_indices", "test_indices"):
                unseen = getattr(self, split, None)
                held_out[np.arange(0) if unseen is None else np.asarray(unseen, dtype=np.int64)] = True
        labelled, calibration = choose_labelled(codes, held_out, seed)
        held_out[:] = False
        held_out[labelled[calibration]] = True
        batches = adata.obs[f"_scvi_{BATCH_KEY}"].to_numpy()
        others = np.flatnonzero(codes < 0)
        some = others[spread(len(others), _MAX_OTHERS)]
        rows = np.unique(np.concatenate([labelled, some, _voters(batches, unlabelled_batches(batches, codes))]))
        logger.info(f"Fitting the annotation to {len(names)} labels of {len(labelled):,} cells.")
        features = CellFeatures.joined(list(self._features(adata, rows)))
        if across_studies:
            fitted = fit_across_studies(features, codes[rows], len(names), seed=seed)
        else:
            fitted = fit_annotator(features, codes[rows], len(names), held_out=held_out[rows], seed=seed)
        self.annotation_ = fitted.to_arrays()
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


def _column(labels_key: str | None) -> str:
    return "the column of setup" if labels_key is None else f"obs[{labels_key!r}]"


def _voters(batches: npt.NDArray[np.int64], without: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Cells of the batches without labels, evenly spread where there are many."""
    most = min(_MAX_VOTERS, max(_FEWEST_VOTERS, _MAX_VOTERS_IN_ALL // max(len(without), 1)))
    parts = [np.flatnonzero(batches == batch) for batch in without]
    return np.concatenate([np.arange(0), *(part[spread(len(part), most)] for part in parts)])
