"""Annotation writes what the model says, and nothing else changes."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scgenemamba import tl

LABELS = ["B", "NK/T", "Mono"]
# of six cells: sure, unsure, sure but novel, sure with an empty set, and two of the third label
PROBABILITIES = [[0.9, 0.1, 0.0], [0.4, 0.5, 0.1], [0.8, 0.1, 0.1], [0.0, 0.9, 0.1], [0.1, 0.1, 0.8], [0.0, 0.0, 1.0]]
NOVELTY = [0.1, 0.5, 1.5, 0.2, 1.0, 0.0]
EMPTY = 3


class Model:
    """What annotate asks a model for, with given answers."""

    def __init__(self, labels=LABELS, calibrated=True):
        self.labels, self.calibrated = labels, calibrated
        self.asked = []

    def predict(self, adata, soft=False, batch_size=None):
        self.asked.append("predict")
        return pd.DataFrame(np.float32(PROBABILITIES), columns=self.labels, index=adata.obs_names)

    def predict_sets(self, adata, coverage=0.9):
        self.asked.append(f"sets {coverage}")
        if not self.calibrated:
            msg = "The model was never calibrated."
            raise ValueError(msg)
        sets = pd.DataFrame(PROBABILITIES, columns=self.labels, index=adata.obs_names) > 0.2
        sets.iloc[EMPTY] = False
        # columns by name: their order is the model's own business
        return sets[self.labels[::-1]]

    def novelty_score(self, adata):
        self.asked.append("novelty")
        return np.float32(NOVELTY)

    def get_latent_representation(self, adata, batch_size=None):
        self.asked.append(f"latent {batch_size}")
        return np.repeat(np.eye(2, dtype=np.float32), [3, 3], axis=0)


@pytest.fixture
def cells():
    obs = pd.DataFrame(
        {"mine": list("uvwxyz"), "cluster": ["1", "1", "1", "2", "2", None]}, index=[f"c{i}" for i in range(6)]
    )
    adata = AnnData(np.ones((6, 2), dtype=np.float32), obs=obs)
    adata.obsm["X_pca"] = np.ones((6, 2))
    adata.uns["title"] = "mine"
    return adata


def test_label_or_unknown(cells):
    assert tl.annotate(Model(), cells) is None
    assert list(cells.obs["genemamba"]) == ["B", "NK/T", "Unknown", "Unknown", "Mono", "Mono"]
    assert list(cells.obs["genemamba"].cat.categories) == ["B", "NK/T", "Mono", "Unknown"]
    assert list(cells.obs["genemamba_label"]) == ["B", "NK/T", "B", "NK/T", "Mono", "Mono"]
    assert list(cells.obs["genemamba_set"]) == ["B", "B | NK/T", "B", "", "Mono", "Mono"]
    np.testing.assert_array_equal(cells.obs["genemamba_novelty"], np.float32(NOVELTY))
    np.testing.assert_allclose(cells.obs["genemamba_probability"], [0.9, 0.5, 0.8, 0.9, 0.8, 1.0], rtol=1e-6)
    np.testing.assert_array_equal(cells.obsm["genemamba_probabilities"], np.float32(PROBABILITIES))


def test_nothing_else_changes(cells):
    before = cells.copy()
    tl.annotate(Model(), cells, key_added="k", majority_voting="cluster")
    added = ["k", "k_probability", "k_label", "k_novelty", "k_set", "k_majority"]
    assert list(cells.obs) == [*before.obs, *added]
    pd.testing.assert_frame_equal(cells.obs[["mine", "cluster"]], before.obs)
    assert set(cells.obsm) == {"X_pca", "k_probabilities"}
    assert set(cells.uns) == {"title", "k"}
    np.testing.assert_array_equal(cells.X, before.X)
    assert list(cells.uns["k"]["columns"]) == added


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
@pytest.mark.parametrize("coverage", [0.9, None])
@pytest.mark.filterwarnings("error:Forward slashes")
def test_the_result_can_be_written(cells, tmp_path, suffix, coverage):
    del cells.obs["cluster"]  # holds None
    tl.annotate(Model(), cells, coverage=coverage, majority_voting=True)
    file = tmp_path / f"cells.{suffix}"
    getattr(cells, f"write_{suffix}")(file)
    result = getattr(ad, f"read_{suffix}")(file)
    assert list(result.obs["genemamba"]) == list(cells.obs["genemamba"])
    assert list(result.obsm["genemamba_probabilities"]) == ["B", "NK_T", "Mono"]
    assert list(result.uns["genemamba"]["labels"]) == LABELS
    assert result.uns["genemamba"]["params"].get("coverage") == coverage
    # a result that was read replaces as well as one in memory
    tl.annotate(Model(), result, coverage=None)
    assert [name for name in result.obs if "genemamba" in name] == ["genemamba", "genemamba_probability"]


def test_slashes_make_no_two_names_equal(cells):
    tl.annotate(Model(["a/b", "a_b", "c"]), cells)
    assert list(cells.obsm["genemamba_probabilities"]) == ["a_b_", "a_b", "c"]


def test_a_majority_needs_its_share(cells):
    tl.annotate(Model(), cells, majority_voting="cluster", coverage=None)
    # two of three are B; one of two each, where the first label wins; no cluster
    assert list(cells.obs["genemamba_majority"]) == ["B", "B", "B", "NK/T", "NK/T", "Mono"]
    tl.annotate(Model(), cells, majority_voting="cluster", coverage=None, min_share=0.6)
    assert list(cells.obs["genemamba_majority"]) == ["B", "B", "B", "NK/T", "Mono", "Mono"]
    tl.annotate(Model(), cells, majority_voting="cluster", coverage=None, min_share=1)
    assert list(cells.obs["genemamba_majority"]) == list(cells.obs["genemamba"])


def test_unknown_cells_vote(cells):
    cells.obs["cluster"] = ["1", "2", "1", "1", "2", "2"]
    tl.annotate(Model(), cells, majority_voting="cluster")
    assert list(cells.obs["genemamba_majority"]) == ["Unknown", "Mono", "Unknown", "Unknown", "Mono", "Mono"]


def test_numbers_and_missing_values_as_clusters(cells):
    cells.obs["cluster"] = [0, 0, 0, 1, 1, 1]
    tl.annotate(Model(), cells, majority_voting="cluster", coverage=None)
    assert list(cells.obs["genemamba_majority"]) == ["B", "B", "B", "Mono", "Mono", "Mono"]
    cells.obs["cluster"] = np.nan
    tl.annotate(Model(), cells, majority_voting="cluster", coverage=None)
    assert list(cells.obs["genemamba_majority"]) == list(cells.obs["genemamba"])


def test_clusters_of_the_latent_are_small_and_vote(cells):
    rng = np.random.default_rng(0)
    latent = np.repeat(np.eye(3), 100, axis=0) * 20 + rng.normal(size=(300, 3))
    truth = np.repeat(LABELS, 100)
    wrong = rng.random(300) < 0.15

    class Many(Model):
        def predict(self, adata, soft=False, batch_size=None):
            said = np.where(wrong, np.roll(truth, 100), truth)
            return pd.DataFrame({label: (said == label) * 1.0 for label in LABELS}, index=adata.obs_names)

        def get_latent_representation(self, adata, batch_size=None):
            return latent

    adata = AnnData(np.ones((300, 1)))
    tl.annotate(Many(), adata, coverage=None, majority_voting=True)
    assert adata.obs["genemamba_cluster"].nunique() > 6
    assert pd.crosstab(adata.obs["genemamba_cluster"], truth).gt(0).sum(axis=1).max() == 1
    assert (adata.obs["genemamba"] == truth).mean() < 0.9
    assert (adata.obs["genemamba_majority"] == truth).mean() > 0.99
    again = adata.copy()
    tl.annotate(Many(), again, coverage=None, majority_voting=True)
    pd.testing.assert_frame_equal(again.obs, adata.obs)


@pytest.mark.parametrize("n", [1, 2, 3, 12])
def test_few_cells_can_be_clustered(n):
    from scgenemamba.tl._majority import over_cluster

    assert len(over_cluster(np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32))) == n


def test_an_earlier_result_leaves_nothing_behind(cells):
    tl.annotate(Model(), cells, majority_voting=True)
    cells.obs["genemamba_note"] = "mine"
    tl.annotate(Model(), cells, coverage=None)
    assert list(cells.obs) == ["mine", "cluster", "genemamba", "genemamba_probability", "genemamba_note"]
    assert "coverage" not in cells.uns["genemamba"]["params"]


def test_columns_of_others_are_not_removed(cells):
    cells.obs["genemamba_cluster"] = "mine"
    cells.uns["genemamba"] = "mine"
    tl.annotate(Model(), cells, coverage=None)
    assert set(cells.obs["genemamba_cluster"]) == {"mine"}


def test_names_of_cells_may_occur_twice(cells):
    cells.obs_names = ["same"] * 6
    tl.annotate(Model(), cells)
    assert list(cells.obs["genemamba_label"]) == ["B", "NK/T", "B", "NK/T", "Mono", "Mono"]


def test_labels_may_be_numbers(cells):
    tl.annotate(Model([3, 1, 2]), cells)
    assert list(cells.obs["genemamba"].cat.categories) == ["3", "1", "2", "Unknown"]
    assert list(cells.obs["genemamba_set"])[1] == "3 | 1"


def test_without_calibration(cells):
    model = Model(calibrated=False)
    before = list(cells.obs)
    with pytest.raises(ValueError, match="never calibrated") as error:
        tl.annotate(model, cells)
    assert "coverage=None" in error.value.__notes__[0]
    # noticed before the cells are read, and nothing half done
    assert model.asked == ["sets 0.9"]
    assert list(cells.obs) == before
    tl.annotate(model, cells, coverage=None)
    assert list(cells.obs) == [*before, "genemamba", "genemamba_probability"]
    assert list(cells.obs["genemamba"]) == ["B", "NK/T", "B", "NK/T", "Mono", "Mono"]


def test_arguments_reach_the_model(cells):
    class Batches(Model):
        def predict_sets(self, adata, coverage=0.9, batch_size=None):
            self.asked.append(batch_size)
            return super().predict_sets(adata, coverage)

        def novelty_score(self, adata, batch_size=None):
            self.asked.append(batch_size)
            return super().novelty_score(adata)

    model = Batches()
    tl.annotate(model, cells, coverage=0.8, batch_size=7, majority_voting=True, unknown_label="?")
    assert model.asked == [7, "sets 0.8", "predict", 7, "novelty", "latent 7"]
    assert cells.obs["genemamba"].iloc[2] == "?"
    params = {"coverage": 0.8, "unknown_label": "?", "majority_voting": True, "min_share": 0.5}
    assert cells.uns["genemamba"]["params"] == params


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"coverage": 90}, ValueError, "coverage must be between 0 and 1"),
        ({"min_share": 2}, ValueError, "min_share"),
        ({"unknown_label": "B"}, ValueError, "is a label of the model"),
        ({"majority_voting": "leiden"}, KeyError, "leiden not found in adata.obs.*'mine', 'cluster'"),
        ({"majority_voting": "cluster", "key_added": "cluster"}, ValueError, "would be overwritten"),
    ],
)
def test_refusals_come_first_and_leave_all_as_it_is(cells, options, error, words):
    model, before = Model(), cells.copy()
    with pytest.raises(error, match=words):
        tl.annotate(model, cells, **options)
    assert model.asked == []
    pd.testing.assert_frame_equal(cells.obs, before.obs)


def test_a_model_without_labels_and_a_view_are_refused(cells):
    with pytest.raises(ValueError, match="no labels"):
        tl.annotate(Model(labels=[]), cells)
    with pytest.raises(ValueError, match="view"):
        tl.annotate(Model(), cells[:3])


def test_the_result_is_told(cells, messages, caplog):
    caplog.set_level("INFO", logger="scvi")  # scvi-tools' own, which is not loaded here
    tl.annotate(Model(), cells)
    (said,) = [text for text in messages if "obs['genemamba']" in text]
    assert "6 cells have 3 labels" in said
    assert "2 are 'Unknown' (1 by novelty, 1 by an empty prediction set)" in said
