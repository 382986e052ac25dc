"""Annotation of embedded cells, on simulated features: heads, calibration, prediction sets, votes and novelty."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import roc_auc_score

from scgenemamba.train import Annotator, CellFeatures, choose_labelled, fit_annotator, unlabelled_batches
from scgenemamba.train._annotation import _fit
from scgenemamba.train._annotation._calibration import fit_temperature, nonconformity, tempered, threshold
from scgenemamba.train._annotation._heads import Heads
from scgenemamba.train._annotation._novelty_scale import NoveltyScale

N_GENES, N_LATENT = 40, 6
SIZES = {"n_latent": N_LATENT, "n_genes": N_GENES}


def simulate(n_cells, n_types=4, *, seed=0, distance=2.0, noise=1.0, latent_noise=3.0, shift=0.0, batch=0, types=None):
    """Cells of types that overlap; ``shift`` moves all of them, as another study would."""
    centers = np.random.default_rng(99).normal(size=(10, N_GENES + N_LATENT)) * distance
    rng = np.random.default_rng(seed)
    codes = rng.integers(n_types, size=n_cells) if types is None else np.asarray(types)
    spread = np.repeat([3.0, latent_noise], [N_GENES, N_LATENT])
    everything = centers[codes] + noise * spread * rng.normal(size=(n_cells, N_GENES + N_LATENT))
    everything += shift * np.random.default_rng(5).normal(size=N_GENES + N_LATENT)
    values = np.maximum(everything[:, :N_GENES], 0).astype(np.float32)
    latent = everything[:, N_GENES:].astype(np.float32)
    return CellFeatures(latent, sp.csr_matrix(values), np.full(n_cells, batch)), codes.astype(np.int64)


def nobody(labels):
    return np.zeros(len(labels), dtype=bool)


def fitted(cells, labels, n_labels=4, held_out=None):
    return fit_annotator(cells, labels, n_labels, held_out=nobody(labels) if held_out is None else held_out)


@pytest.fixture(scope="module")
def annotator():
    return fitted(*simulate(400))


# two batches, the second without labels and moved
@pytest.fixture(scope="module")
def voting():
    known, labels = simulate(300, latent_noise=1.0)
    query, truth = simulate(300, seed=1, shift=2.5, latent_noise=1.0, batch=1)
    cells = CellFeatures.joined([known, query])
    return fitted(cells, np.concatenate([labels, np.full(300, -1)])), known, query, truth


def same(one, other):
    pairs = zip(one.to_arrays().items(), other.to_arrays().items(), strict=True)
    return all(name == name2 and np.array_equal(a, b) and a.dtype == b.dtype for (name, a), (name2, b) in pairs)


@pytest.mark.parametrize("n_labels", [1, 2, 4, 5, 10])
def test_every_fold_has_every_label(n_labels):
    cells, types = simulate(30 * n_labels, n_labels, distance=8.0)
    labels = types[_fit.balanced_order(types, 0)]
    folds = _fit._folds(labels)
    np.testing.assert_array_equal(np.sum(folds, axis=0), 1)
    for fold in folds:
        assert set(labels[fold]) == set(labels)
    # single cells do not all fall into one fold
    assert len(_fit._folds(np.arange(7))) == 5
    # types that nobody would confuse
    assert fitted(cells, types, n_labels).probabilities(cells).max(axis=1).min() > 0.9


# --- heads


@pytest.mark.parametrize("n_types", [1, 2, 3])
def test_few_labels(n_types):
    cells, labels = simulate(200, n_types)
    heads = Heads.fit(cells, labels, n_types)
    probabilities = heads.probabilities(cells)
    assert probabilities.shape == (200, n_types)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.8
    fitted(cells, labels, n_types).check(n_labels=n_types, **SIZES)


def test_two_labels_are_a_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    cells, labels = simulate(200, 2)
    heads = Heads.fit(cells, labels, 2)
    wanted = [
        LogisticRegression(C=strength, class_weight="balanced", max_iter=300).fit(x, labels).predict_proba(x)
        for x, strength in ((cells.values, 0.1), (cells.latent, 1.0))
    ]
    np.testing.assert_allclose(heads.probabilities(cells), 0.7 * wanted[0] + 0.3 * wanted[1], atol=1e-5)


def test_a_label_without_cells_is_never_predicted():
    cells, labels = simulate(200, 2)
    annotator = fitted(cells, labels * 2, 4)  # 1 and 3 have none
    annotator.check(n_labels=4, **SIZES)
    probabilities = annotator.probabilities(cells)
    assert probabilities[:, [1, 3]].max() < 1e-6
    assert (probabilities.argmax(axis=1) == labels * 2).mean() > 0.9
    assert not annotator.sets(cells, 0.9)[:, [1, 3]].any()


def test_a_label_with_a_single_cell():
    cells, labels = simulate(200, 3)
    labels[labels == 2] = 0
    labels[7] = 2
    annotator = fitted(cells, labels, 3)
    annotator.check(n_labels=3, **SIZES)
    assert np.isfinite(annotator.novelty_score(cells)).all()
    # its own fold has never seen it
    assert annotator.scores[-1] > 0.9


@pytest.mark.parametrize("n_cells", [1, 2, 3, 7])
@pytest.mark.filterwarnings("error")
def test_hardly_any_labelled_cells(n_cells):
    cells, labels = simulate(60)
    labels[n_cells:] = -1
    annotator = fitted(cells, labels)
    annotator.check(n_labels=4, **SIZES)
    assert np.isfinite(annotator.probabilities(cells)).all()
    assert np.isfinite(annotator.novelty_score(cells)).all()
    # too few to say anything: all labels
    assert annotator.sets(cells, 0.9).all()


def test_empty_cells_and_genes_that_nobody_expresses():
    cells, labels = simulate(120)
    values = cells.values.toarray()
    values[:5] = 0
    values[:, 3] = 0
    cells = replace(cells, values=sp.csr_matrix(values))
    annotator = fitted(cells, labels)
    annotator.check(n_labels=4, **SIZES)
    assert np.isfinite(annotator.novelty_score(cells)).all()


# --- temperature


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_the_temperature_makes_labels_likelier_and_keeps_their_order(sharpness):
    rng = np.random.default_rng(0)
    right = rng.dirichlet(np.full(5, 0.5), size=2000).astype(np.float32)
    labels = np.array([rng.choice(5, p=p / p.sum()) for p in right.astype(float)])
    said = tempered(right, 1 / sharpness)
    temperature = fit_temperature(said, labels)
    after, rows = tempered(said, temperature), np.arange(2000)
    assert np.log(after[rows, labels] + 1e-9).mean() >= np.log(said[rows, labels] + 1e-9).mean() - 1e-6
    assert temperature == pytest.approx(sharpness, rel=0.2)
    order = np.argsort(said, axis=1)
    assert (np.diff(np.take_along_axis(after, order, axis=1), axis=1) >= 0).all()
    np.testing.assert_allclose(after.sum(axis=1), 1, rtol=1e-5)


def test_zeros_and_ones_stay_finite():
    certain = np.eye(3, dtype=np.float32)
    for labels in (np.arange(3), np.array([1, 2, 0])):
        temperature = fit_temperature(certain, labels)
        assert np.isfinite(tempered(certain, temperature)).all()


# --- prediction sets


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_sets_hold_what_they_promise(coverage):
    fit_to, labels = simulate(300, distance=0.8)
    others, truth = simulate(1000, seed=3, distance=0.8)
    annotator, found = fitted(fit_to, labels), []
    for seed in range(100):
        order = np.random.default_rng(seed).permutation(1000)
        calibration, test = order[:500], order[500:]
        again = annotator.calibrated(others[calibration], truth[calibration])
        found.append(again.sets(others[test], coverage)[np.arange(500), truth[test]].mean())
    assert np.mean(found) == pytest.approx(coverage, abs=0.02)
    assert np.std(found) > 0
    # as it was fitted, from folds
    assert annotator.sets(others, coverage)[np.arange(1000), truth].mean() > coverage - 0.05


def test_higher_coverage_makes_larger_sets(annotator):
    cells, _ = simulate(300, seed=2)
    small, large = annotator.sets(cells, 0.5), annotator.sets(cells, 0.95)
    assert (small <= large).all()
    assert large.sum() > small.sum()


def test_too_few_calibration_cells_give_all_labels(annotator):
    cells, labels = simulate(8, seed=4)
    few = annotator.calibrated(cells, labels)
    assert few.sets(cells, 0.9).all()
    assert not few.sets(cells, 0.8).all()
    assert threshold(few.scores, 0.9) == np.inf
    assert threshold(np.zeros(9, dtype=np.float32), 0.9) == 0


def test_the_threshold_is_the_conformal_quantile():
    scores = np.arange(99, dtype=np.float32)
    assert threshold(scores, 0.9) == 89  # the 90th of 99
    assert threshold(scores, 0.99) == 98
    assert threshold(scores, 0.995) == np.inf
    np.testing.assert_allclose(nonconformity(np.float32([[0.2, 0.8], [0.6, 0.4]]), np.array([0, 0])), [0.4, 0.8])


def test_held_out_cells_calibrate_where_there_are_enough():
    cells, labels = simulate(500)
    enough = _fit._MIN_CALIBRATION
    assert enough <= 100
    held_out = np.arange(500) < 100
    for n_cells in (100, enough):
        assert len(fitted(cells, labels, held_out=np.arange(500) < n_cells).scores) == n_cells
    assert len(fitted(cells, labels, held_out=np.arange(500) < enough - 1).scores) == 500
    # a label that only the held-out cells have
    labels[(labels == 3) & ~held_out] = 0
    assert len(fitted(cells, labels, held_out=held_out).scores) == 500


def test_calibration_cells_of_many_are_drawn_at_random(monkeypatch):
    monkeypatch.setattr(_fit, "_MAX_FITTED", 200)
    monkeypatch.setattr(_fit, "_MAX_CALIBRATION", 400)
    rng = np.random.default_rng(0)
    labels = rng.choice(3, p=[0.9, 0.08, 0.02], size=5000)
    labels[::7] = -1
    labels[0], held_out = 3, rng.random(5000) < 0.2
    held_out[0] = True
    rows, calibration = choose_labelled(labels, held_out, 0)
    assert len(rows) == len(np.unique(rows)) == 600
    assert (labels[rows] >= 0).all()
    assert held_out[rows[calibration]].all()
    # labels have even places in the fit, and their own share in the calibration
    assert np.bincount(labels[rows[~calibration]]).min() == 1
    assert (labels[rows[calibration]] == 0).mean() == pytest.approx(0.9, abs=0.05)
    assert 3 not in labels[rows[calibration]]
    # without held-out cells some are kept back, and a second choice is the first
    rows, calibration = choose_labelled(labels, nobody(labels), 0)
    assert calibration.sum() == pytest.approx(400, abs=1)
    again, kept = choose_labelled(labels[rows], calibration, 0)
    assert len(again) == len(rows)
    assert kept.sum() == calibration.sum()


def test_calibrating_changes_sets_and_keeps_the_first_label(annotator):
    cells, labels = simulate(300, seed=6, noise=1.6)
    again = annotator.calibrated(cells, labels)
    assert not np.array_equal(again.sets(cells, 0.9), annotator.sets(cells, 0.9))
    before, after = annotator.probabilities(cells), again.probabilities(cells)
    np.testing.assert_array_equal(before.argmax(axis=1), after.argmax(axis=1))
    np.testing.assert_array_equal(again.novelty_score(cells), annotator.novelty_score(cells))


# --- votes


def test_votes_beat_the_cells_themselves(voting):
    annotator, _, query, truth = voting
    alone = replace(query, batch=np.full(len(query), -1))
    by_itself = (annotator.probabilities(alone).argmax(axis=1) == truth).mean()
    together = (annotator.probabilities(query).argmax(axis=1) == truth).mean()
    assert together > by_itself + 0.1


def test_other_batches_have_no_votes(voting):
    annotator, known, query, _ = voting
    assert list(annotator.neighbourhood.batches) == [1]
    wanted = tempered(annotator.heads.probabilities(known), float(annotator.temperature))
    np.testing.assert_array_equal(annotator.probabilities(known), wanted)
    for batch in (-1, 7):
        elsewhere = replace(query, batch=np.full(len(query), batch))
        wanted = tempered(annotator.heads.probabilities(query), float(annotator.temperature))
        np.testing.assert_array_equal(annotator.probabilities(elsewhere), wanted)


def test_a_cell_is_predicted_alone_as_among_others(voting):
    annotator, known, query, _ = voting
    cells = CellFeatures.joined([known, query])
    order = np.random.default_rng(0).permutation(len(cells))[:60]
    together = annotator.probabilities(cells), annotator.novelty_score(cells), annotator.sets(cells, 0.9)
    for row in order:
        one = cells[[row]]
        np.testing.assert_allclose(annotator.probabilities(one)[0], together[0][row], atol=1e-5)
        np.testing.assert_allclose(annotator.novelty_score(one)[0], together[1][row], rtol=1e-3)
        np.testing.assert_array_equal(annotator.sets(one, 0.9)[0], together[2][row])
    np.testing.assert_allclose(annotator.probabilities(cells[order]), together[0][order], atol=1e-5)


def test_sets_of_a_batch_without_labels_are_never_empty_and_hold_the_first_label(voting):
    annotator, _, query, truth = voting
    for coverage in (0.2, 0.9):
        sets = annotator.sets(query, coverage)
        assert sets[np.arange(len(query)), annotator.probabilities(query).argmax(axis=1)].all()
    assert annotator.sets(query, 0.9)[np.arange(len(query)), truth].mean() > 0.85


def test_a_small_batch_does_not_vote():
    known, labels = simulate(200)
    query, _ = simulate(49, seed=1, batch=1)
    cells, codes = CellFeatures.joined([known, query]), np.concatenate([labels, np.full(49, -1)])
    assert list(unlabelled_batches(cells.batch, codes)) == [1]
    annotator = fitted(cells, codes)
    assert len(annotator.neighbourhood.batches) == len(annotator.scores_unlabelled) == 0
    annotator.check(n_labels=4, **SIZES)


def test_further_batches_vote_beside_the_first(voting):
    annotator, known, query, _ = voting
    third, _ = simulate(80, seed=8, shift=-2, latent_noise=1.0, batch=2)
    again = annotator.extended(third)
    again.check(n_labels=4, **SIZES)
    assert list(again.neighbourhood.batches) == [1, 2]
    for cells in (known, query):
        np.testing.assert_array_equal(again.probabilities(cells), annotator.probabilities(cells))
        np.testing.assert_array_equal(again.sets(cells, 0.9), annotator.sets(cells, 0.9))
    assert not np.array_equal(again.probabilities(third), annotator.probabilities(third))
    # a batch that is given again is replaced
    assert same(again.extended(third), again)
    assert len(again.scores_unlabelled) == 380


def test_votes_follow_a_new_calibration(voting):
    annotator, known, query, _ = voting
    labels = simulate(300)[1]
    once = annotator.calibrated(known, np.roll(labels, 40) * (np.arange(300) < 90) + labels * (np.arange(300) >= 90))
    assert float(once.temperature) > float(annotator.temperature) * 1.05
    back = replace(once, temperature=annotator.temperature, neighbourhood=annotator.neighbourhood)
    np.testing.assert_allclose(once.neighbourhood.own, once._own(query), atol=1e-5)
    assert not np.allclose(once.scores_unlabelled, annotator.scores_unlabelled)
    once.check(n_labels=4, **SIZES)
    assert same(replace(back, scores=annotator.scores, scores_unlabelled=annotator.scores_unlabelled), annotator)


# --- novelty


def test_novelty_is_above_one_for_a_twentieth_of_known_cells(annotator):
    cells, _ = simulate(3000, seed=11)
    assert (annotator.novelty_score(cells) > 1).mean() == pytest.approx(0.05, abs=0.03)


def test_a_new_type_is_novel():
    annotator = fitted(*simulate(400, distance=3.0))
    known, _ = simulate(300, seed=12, distance=3.0)
    new, _ = simulate(300, seed=13, distance=3.0, types=np.full(300, 7))
    scores = np.concatenate([annotator.novelty_score(known), annotator.novelty_score(new)])
    assert scores.dtype == np.float32
    assert roc_auc_score(np.repeat([0, 1], 300), scores) > 0.95


@pytest.mark.filterwarnings("error")
def test_novelty_of_what_is_far_away_is_finite(annotator):
    cells, _ = simulate(5)
    far = replace(cells, latent=cells.latent * 1e6, values=cells.values * 1e6)
    scale = replace(annotator.scale, medians=0 * annotator.scale.medians, spread=np.float32([1e-3, 1e-3]))
    narrow = replace(annotator, scale=scale)
    scores = narrow.novelty_score(far)
    assert np.isfinite(scores).all()
    assert (scores > 1).all()


def test_known_distances_are_judged_label_by_label():
    """Formula: medians by nearest label drawn towards that of all, the spread about them, 95 % below the threshold."""
    generator = np.random.default_rng(0)
    nearest = np.repeat([0, 2], [60, 20])
    distances = (generator.normal(size=(80, 2)) + np.where(nearest, 3.0, 0.0)[:, None]).astype(np.float32)
    scale = NoveltyScale.fit(distances, nearest, 3)
    medians, spread = scale.medians, scale.spread
    everyones = np.median(distances, axis=0)
    np.testing.assert_allclose(medians[0], 0.75 * np.median(distances[:60], axis=0) + 0.25 * everyones, rtol=1e-5)
    np.testing.assert_allclose(medians[2], 0.5 * np.median(distances[60:], axis=0) + 0.5 * everyones, rtol=1e-5)
    np.testing.assert_allclose(medians[1], everyones, rtol=1e-6)
    rest = distances - medians[nearest]
    np.testing.assert_allclose(spread, np.quantile(rest, 0.75, axis=0) - np.quantile(rest, 0.25, axis=0), rtol=1e-5)
    sums = (rest / spread).sum(axis=1)
    assert (sums < scale.threshold).mean() == 0.95
    assert (sums < scale.quartile).mean() == 0.25
    np.testing.assert_allclose(scale.score(distances, nearest, nearest), np.exp(sums - scale.threshold), rtol=1e-4)


def test_what_a_study_adds_to_all_its_cells_does_not_count():
    """Formula: the quarter of a batch that is least unlike against that of known cells, between nothing and 1.5."""
    generator = np.random.default_rng(0)
    nearest = np.zeros(400, dtype=np.int64)
    known, moved, new, closer = (generator.normal(m, size=(400, 2)).astype(np.float32) for m in (0, 0.3, 9, -2))
    scale = NoveltyScale.fit(known, nearest, 1)
    batch = np.repeat([3, 5, 8], 400)
    shifted = scale.shifted(np.concatenate([moved, new, closer]), np.tile(nearest, 3), batch)
    np.testing.assert_array_equal(shifted.batches, [3, 5, 8])
    sums = ((moved - scale.medians[0]) / scale.spread).sum(axis=1)
    np.testing.assert_allclose(shifted.shifts, [np.quantile(sums, 0.25) - scale.quartile, 1.5, 0], rtol=1e-4)
    assert 0.2 < shifted.shifts[0] < 0.9
    # known batches stay, batches seen again are renewed
    again = shifted.shifted(moved, nearest, np.full(400, 5))
    np.testing.assert_allclose(again.shifts, shifted.shifts[[0, 0, 2]])
    for name, distances in ((3, moved), (5, new), (8, closer), (1, moved)):
        shift = dict(zip(shifted.batches, shifted.shifts, strict=True)).get(name, 0)
        scores = shifted.score(distances, nearest, np.full(400, name))
        np.testing.assert_allclose(scores, np.exp(-shift) * scale.score(distances, nearest, nearest), rtol=1e-4)
    assert (shifted.score(new, nearest, np.full(400, 5)) > 1).all()


def test_known_cells_of_another_study_are_not_new(voting):
    annotator, _, query, _ = voting
    unmoved = replace(annotator, scale=replace(annotator.scale, shifts=0 * annotator.scale.shifts))
    assert annotator.scale.batches == [1]
    assert annotator.scale.shifts > 0
    assert (annotator.novelty_score(query) > 1).mean() < (unmoved.novelty_score(query) > 1).mean()
    # in a study that training has not seen, a cell is judged by itself
    elsewhere = replace(query, batch=np.full(len(query), 7))
    np.testing.assert_array_equal(annotator.novelty_score(elsewhere), unmoved.novelty_score(query))


def test_a_type_that_lies_thinly_is_not_new():
    """Few and scattered cells are as far from others in new data: that is how they are known."""
    cells, labels = simulate(600, distance=3.0)
    keep = (labels != 0) | (np.cumsum(labels == 0) <= 25)
    thin = labels == 0

    def scattered(some, of):
        # the latent of type 0 is wider
        latent = some.latent.copy()
        latent[of] += np.random.default_rng(5).normal(size=latent[of].shape).astype(np.float32) * 2
        return replace(some, latent=latent)

    annotator = fitted(scattered(cells, thin)[keep], labels[keep])
    query, truth = simulate(600, seed=3, distance=3.0)
    scores = annotator.novelty_score(scattered(query, truth == 0))
    assert (scores[truth == 0] > 1).mean() < 0.35
    everyones = np.median(annotator.scale.medians[1:], axis=0)
    assert annotator.scale.medians[0, 1] > everyones[1]


def test_genes_that_were_not_measured_get_means():
    cells, labels = simulate(400)
    annotator = fitted(cells, labels)
    query, truth = simulate(300, seed=2)
    lacking = np.arange(N_GENES) < N_GENES // 3
    values = query.values.toarray()
    values[:, lacking] = 0
    without = replace(query, values=sp.csr_matrix(values))
    filled = without.filled(lacking, annotator.novelty.center)
    # what is left gives up the share of what is lacking
    share = np.expm1(annotator.novelty.center[lacking]).sum() / 1e4
    wanted = np.log1p((1 - min(share, 0.9)) * np.expm1(values[:, ~lacking]))
    np.testing.assert_allclose(filled.values.toarray()[:, ~lacking], wanted, rtol=1e-5)
    np.testing.assert_allclose(filled.values.toarray()[:, lacking][3], annotator.novelty.center[lacking])
    right = [(annotator.probabilities(some).argmax(axis=1) == truth).mean() for some in (filled, without)]
    assert right[0] >= right[1]
    novel = [(annotator.novelty_score(some) > 1).mean() for some in (filled, without)]
    assert novel[0] <= novel[1]
    assert query.filled(np.zeros(N_GENES, dtype=bool), annotator.novelty.center) is query


# --- arrays


def test_arrays_there_and_back(voting):
    annotator, known, query, _ = voting
    again = Annotator.from_arrays(annotator.to_arrays())
    assert same(again, annotator)
    for cells in (known, query):
        np.testing.assert_array_equal(again.probabilities(cells), annotator.probabilities(cells))
        np.testing.assert_array_equal(again.sets(cells, 0.9), annotator.sets(cells, 0.9))
        np.testing.assert_array_equal(again.novelty_score(cells), annotator.novelty_score(cells))
    annotator.check(n_labels=4, **SIZES)


def test_a_missing_or_unknown_array_is_named(annotator):
    arrays = annotator.to_arrays()
    with pytest.raises(ValueError, match=r"heads\.gene_bias"):
        Annotator.from_arrays({name: a for name, a in arrays.items() if name != "heads.gene_bias"})
    with pytest.raises(ValueError, match="more"):
        Annotator.from_arrays({**arrays, "more": np.zeros(1)})


def test_every_array_of_another_shape_type_or_not_finite_is_refused(voting):
    arrays = voting[0].to_arrays()
    assert len(arrays) == 22
    for name, array in arrays.items():
        wrong = [array[None], array.astype(np.complex64), array.astype(bool)]
        if array.ndim:
            wrong += [array[0], array[:0]]
        if array.dtype.kind == "f":
            wrong += [np.full_like(array, np.nan), array.astype(np.int64)]
        for bad in wrong:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                broken = Annotator.from_arrays({**arrays, name: bad})
            if name == "scores" and bad.shape == (0,):
                continue  # no calibration cell at all: sets of all labels
            with pytest.raises(ValueError, match=r"must be finite|no annotation has"):
                broken.check(n_labels=4, **SIZES)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", np.array(-1.0)),
        ("neighbourhood.temperature", np.array([0.0])),
        ("scale.spread", np.zeros(2, dtype=np.float32)),
        ("scores", np.float32([0.5, 0.1])),
    ],
)
def test_values_that_no_annotation_has_are_refused(voting, name, value):
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        Annotator.from_arrays({**voting[0].to_arrays(), name: value}).check(n_labels=4, **SIZES)


@pytest.mark.parametrize("sizes", [{"n_labels": 5}, {"n_latent": 5}, {"n_genes": 5}])
def test_another_model_is_refused(annotator, sizes):
    with pytest.raises(ValueError, match="must be finite floats of shape"):
        annotator.check(**{"n_labels": 4, **SIZES, **sizes})


def test_the_same_seed_gives_the_same_annotation():
    cells, labels = simulate(200)
    assert same(fitted(cells, labels), fitted(cells, labels))
