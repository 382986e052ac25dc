"""Setup names the labels that occur in one batch only."""

from __future__ import annotations

import numpy as np
import pytest

from scgenemamba import GeneMambaModel
from tests.conftest import make_adata


def with_labels(labels, batches, cells_each=10):
    """Cells of the given pairs of label and batch."""
    adata = make_adata(n_cells=cells_each * len(labels))
    adata.obs["cell_type"] = np.repeat(np.array(labels, dtype=object), cells_each)
    adata.obs["batch"] = np.repeat(batches, cells_each)
    return adata


def setup(adata, **options):
    GeneMambaModel.setup_anndata(adata, **{"batch_key": "batch", "labels_key": "cell_type"} | options)


def confounded(recwarn):
    return [str(w.message) for w in recwarn if "in one batch" in str(w.message)]


def test_labels_of_one_batch_are_named(recwarn):
    setup(with_labels(["T", "T", "B", "DC"], ["a", "b", "a", "b"]))
    (said,) = confounded(recwarn)
    assert said.startswith("2 of 3 labels of obs['cell_type'] occur in one batch of obs['batch'] only: ")
    assert "'B (in a)', 'DC (in b)'." in said
    assert "'T" not in said
    assert "cannot be told apart" not in said
    assert "'Unknown'" in said


def test_no_shared_label_is_said(recwarn):
    setup(with_labels(["T", "B"], ["a", "b"]))
    (said,) = confounded(recwarn)
    assert "2 of 2 labels" in said
    assert "cannot be told apart" in said


def test_unlabeled_cells_count_as_no_label_of_their_batch(recwarn):
    # batch b knows T, so B is alone in a although b has unlabelled cells
    setup(with_labels(["T", "T", "B", "?", None], ["a", "b", "a", "b", "b"]), unlabeled_category="?")
    (said,) = confounded(recwarn)
    assert "1 of 2 labels" in said
    assert "'B (in a)'" in said


@pytest.mark.parametrize(
    ("labels", "batches", "options"),
    [
        (["T", "T", "B", "B"], ["a", "b", "a", "b"], {}),
        (["T", "B", "Unknown"], ["a", "a", "query"], {}),
        (["T", "B", None], ["a", "a", "query"], {}),
        (["T", "B"], ["a", "a"], {}),
        (["T", "B"], ["a", "b"], {"labels_key": None}),
        (["T", "B"], ["a", "b"], {"batch_key": None}),
    ],
    ids=["balanced", "query of unknowns", "query without values", "one batch", "no labels", "no batches"],
)
def test_nothing_is_said_where_nothing_is_confounded(recwarn, labels, batches, options):
    setup(with_labels(labels, batches), **options)
    assert confounded(recwarn) == []


def test_one_cell_in_another_batch_is_enough(recwarn):
    adata = with_labels(["T", "T", "B", "B"], ["a", "b", "a", "a"])
    adata.obs.loc[adata.obs_names[-1], "batch"] = "b"
    setup(adata)
    assert confounded(recwarn) == []


def test_categories_without_cells_do_not_count(recwarn):
    adata = with_labels(["T", "T", "B"], ["a", "b", "a"])
    adata.obs = adata.obs.astype({"cell_type": "category", "batch": "category"})
    setup(adata[adata.obs["cell_type"] == "T"].copy())
    assert confounded(recwarn) == []
    setup(adata)
    assert len(confounded(recwarn)) == 1
