"""How well a model annotates a study that it was not trained on, beside two baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scanpy as sc
from anndata import AnnData

from scgenemamba.metrics import annotation_scores, novelty_auroc, per_class_scores, set_coverage

from ._cells import BACKGROUND, LABEL, NO_LABEL, STUDY

if TYPE_CHECKING:
    from scgenemamba.model import GeneMambaModel

_N_GENES = 2000
_STRENGTH = {"logistic regression": 0.1, "logistic regression, each study standardised": 0.001}
_LARGEST = 10.0


def judge(model: GeneMambaModel, cells: AnnData, study: str) -> dict[str, Any]:
    """Scores of a study's labelled cells, by label too, of the model and of two logistic regressions.

    The second of these standardises the genes of training cells and study by their own means and deviations, as one can who
    has all cells of a study at once; the model reads each cell alone.

    Parameters
    ----------
    model
        Trained without the study.
    cells
        Those of :func:`~scgenemamba.reference._cells.read_cells`, the study among them.
    study
        Its name.
    """
    labels = cells.obs[LABEL].astype(str).to_numpy()
    own = ((cells.obs[STUDY] == study) & (labels != NO_LABEL)).to_numpy()
    query, truth = cells[own].copy(), labels[own]
    probabilities: Any = model.predict(query, soft=True)
    sets = model.predict_sets(query)
    predicted = probabilities.columns.to_numpy()[probabilities.to_numpy().argmax(1)]
    known = np.isin(truth, model.labels)
    scores = annotation_scores(truth, predicted, probabilities, trained_on=model.labels)
    found: dict[str, Any] = {name: scores[name] for name in ("accuracy", "macro_f1", "ece")}
    found["coverage"] = set_coverage(truth[known], sets[known]).coverage
    novelty = model.novelty_score(query)
    found["called_unknown"] = float((novelty[known] > 1).mean())
    if (background := cells.obs[BACKGROUND].to_numpy()).any():
        foreign = model.novelty_score(cells[background].copy())
        is_new = np.repeat([False, True], [known.sum(), len(foreign)])
        found["novelty_auroc"] = novelty_auroc(is_new, np.concatenate([novelty[known], foreign]))
    found["labels"] = per_class_scores(truth, predicted, trained_on=model.labels).dropna().to_dict("index")
    found["baselines"] = {
        name: _brief(truth, guess, model.labels) for name, guess in _baselines(cells, own, labels, study).items()
    }
    return found


def _brief(truth: np.ndarray, guess: np.ndarray, known: list[Any]) -> dict[str, float]:
    scores = annotation_scores(truth, guess, trained_on=known)
    return {name: scores[name] for name in ("accuracy", "macro_f1")}


def _baselines(cells: AnnData, own: np.ndarray, labels: np.ndarray, study: str) -> dict[str, np.ndarray]:
    from sklearn.linear_model import LogisticRegression

    studies = cells.obs[STUDY].astype(str).to_numpy()
    genes = AnnData(cells.X.copy(), var=cells.var[[]])
    sc.pp.normalize_total(genes, target_sum=1e4)
    sc.pp.log1p(genes)
    train = (labels != NO_LABEL) & (studies != study)
    chosen = sc.pp.highly_variable_genes(genes[train], n_top_genes=_N_GENES, inplace=False)["highly_variable"]
    values = genes.X[:, chosen.to_numpy()].toarray()
    standardised = values.copy()
    for one in {*studies[train], study}:
        rows = studies == one
        mean, deviation = values[rows].mean(0), values[rows].std(0)
        standardised[rows] = np.clip((values[rows] - mean) / np.maximum(deviation, 1e-3), -_LARGEST, _LARGEST)
    guesses = {}
    for (name, strength), features in zip(_STRENGTH.items(), (values, standardised), strict=True):
        regression = LogisticRegression(C=strength, class_weight="balanced", max_iter=300)
        guesses[name] = regression.fit(features[train], labels[train]).predict(features[own])
    return guesses
