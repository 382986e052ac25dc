"""The annotation for studies to come, on simulated studies whose genes are measured differently."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import roc_auc_score

from scgenemamba.train import Annotator, CellFeatures, fit_across_studies
from scgenemamba.train._annotation._heads import fit_logistic
from scgenemamba.train._annotation._self_training import with_guesses

N_TYPES, N_GENES, N_LATENT = 4, 60, 6


def study(number, n_cells=300, types=None, seed=None, distance=1.1):
    """Cells of a study: its genes have factors of their own, its latent does not differ."""
    rng = np.random.default_rng(number if seed is None else seed)
    centers = np.random.default_rng(99).normal(size=(10, N_GENES + N_LATENT)) * distance
    centers[:, N_GENES:] *= 2
    factors = np.random.default_rng(1000 + number).lognormal(0, 0.8, size=N_GENES)
    codes = rng.integers(N_TYPES, size=n_cells) if types is None else np.asarray(types)
    both = centers[codes] + rng.normal(size=(n_cells, N_GENES + N_LATENT)) * np.repeat([1.2, 1.6], [N_GENES, N_LATENT])
    values = (np.maximum(both[:, :N_GENES] + 1, 0) * factors).astype(np.float32)
    latent = both[:, N_GENES:].astype(np.float32)
    return CellFeatures(latent, sp.csr_matrix(values), np.full(n_cells, number, dtype=np.int64)), codes.astype(np.int64)


@pytest.fixture(scope="module")
def studies():
    """Five studies, the first two with labels."""
    parts = [study(number) for number in range(5)]
    cells = CellFeatures.joined([cells for cells, _ in parts])
    truth = np.concatenate([codes for _, codes in parts])
    return cells, truth, np.where(cells.batch < 2, truth, -1)


@pytest.fixture(scope="module")
def annotator(studies):
    cells, _, labels = studies
    return fit_across_studies(cells, labels, N_TYPES)


def accuracy(probabilities, truth):
    return float((probabilities.argmax(1) == truth).mean())


def test_guesses_are_mostly_right_and_labels_stay(studies):
    cells, truth, labels = studies
    guesses = with_guesses(cells, labels, N_TYPES)
    assert (guesses[labels >= 0] == labels[labels >= 0]).all()
    guessed = (labels < 0) & (guesses >= 0)
    assert guessed.sum() > 0.9 * (labels < 0).sum()
    assert (guesses[guessed] == truth[guessed]).mean() > 0.95


def test_without_other_studies_nothing_is_guessed(studies):
    cells, truth, _ = studies
    own = cells.batch == 0
    half = np.where(np.arange(own.sum()) % 2 == 0, truth[own], -1)
    assert (with_guesses(cells[own], half, N_TYPES) == half).all()


def test_studies_without_labels_make_it_better_for_another(studies, annotator):
    cells, _, labels = studies
    known = labels >= 0
    weight, bias = fit_logistic(cells.values[known], labels[known], N_TYPES, 0.1)
    gains = []
    for number in (7, 8, 9):
        query, truth = study(number, n_cells=1000)
        alone = np.asarray(query.values @ weight + bias)
        gains.append(accuracy(annotator.probabilities(query), truth) - accuracy(alone, truth))
    assert np.mean(gains) > 0.02


def test_probabilities_and_sets_hold_for_another_study(annotator):
    query, truth = study(8, n_cells=1500)
    probabilities = annotator.probabilities(query)
    assert abs(probabilities.max(1).mean() - accuracy(probabilities, truth)) < 0.06
    sets = annotator.sets(query, 0.9)
    assert sets[np.arange(len(truth)), truth].mean() > 0.85
    assert sets.sum(1).mean() < 2


def test_known_types_of_another_study_are_not_new(annotator):
    query, _ = study(9)
    foreign, _ = study(9, types=np.full(300, 7), seed=3, distance=2.2)
    known, new = annotator.novelty_score(query), annotator.novelty_score(foreign)
    assert (known > 1).mean() < 0.15
    assert roc_auc_score(np.repeat([0, 1], 300), np.concatenate([known, new])) > 0.95


def test_nobody_votes_and_arrays_fit(annotator):
    assert len(annotator.neighbourhood.batch) == 0
    arrays = annotator.to_arrays()
    Annotator.from_arrays(arrays).check(n_latent=N_LATENT, n_labels=N_TYPES, n_genes=N_GENES)


def test_the_same_again(studies, annotator):
    cells, _, labels = studies
    again = fit_across_studies(cells, labels, N_TYPES).to_arrays()
    assert all(np.array_equal(array, again[name]) for name, array in annotator.to_arrays().items())


@pytest.mark.parametrize("n_studies", [1, 3])
def test_one_study_with_labels_is_enough(studies, n_studies):
    cells, truth, _ = studies
    some = cells.batch < n_studies
    labels = np.where(cells.batch == 0, truth, -1)[some]
    annotator = fit_across_studies(cells[some], labels, N_TYPES)
    assert accuracy(annotator.probabilities(cells[cells.batch == 0]), truth[cells.batch == 0]) > 0.9
    assert len(annotator.scores) > 100


def test_a_label_of_one_study_is_learnt():
    first, codes = study(0)
    second, other = study(1, types=np.random.default_rng(0).integers(N_TYPES - 1, size=300))
    cells, labels = CellFeatures.joined([first, second]), np.concatenate([codes, other])
    annotator = fit_across_studies(cells, labels, N_TYPES)
    own = codes == N_TYPES - 1
    assert (annotator.probabilities(first[own]).argmax(1) == N_TYPES - 1).mean() > 0.9
