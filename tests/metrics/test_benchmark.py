"""The comparison: what methods see, what is kept, and what the tables say."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from scgenemamba import metrics
from scgenemamba.metrics import Method, Output
from tests.conftest import make_adata

HIDDEN = "__hidden__"


class Spy(Method):
    """Predicts the right type from marker genes of the simulation, and notes what it was given."""

    name = "spy"
    label_free = label_aware = annotates = True

    def __init__(self, name="spy", *, error=None, ours=False, options=None):
        self.name, self.error, self.ours, self.given = name, error, ours, options or {}
        self.tasks = []

    def options(self):
        return self.given

    def run(self, task):
        self.tasks.append(task)
        if self.error is not None:
            raise self.error
        counts = task.cells.counts().X.toarray()
        embedding = np.log1p(counts[:, :30]).astype(np.float32)
        if task.labels is None:
            return Output(embedding)
        classes = np.unique(task.shown_labels)
        centers = np.stack([embedding[task.labels == label].mean(0) for label in classes])
        distances = ((embedding[task.query][:, None] - centers) ** 2).sum(-1)
        weights = np.exp(-distances)
        return Output(embedding, task.table(weights / weights.sum(1, keepdims=True), classes))


@pytest.fixture(autouse=True)
def _cheap_scores(monkeypatch):
    """Scores of integration have tests of their own, and take half a minute."""

    def scores(adata, keys, batch_key, labels_key, *, unintegrated_key=None):
        assert adata.obsm[keys[0]].shape[0] == adata.n_obs
        values = {"Bio conservation": 0.5, "Avg_bio": 0.4}
        if batch_key is not None:
            values |= {"Total": 0.6, "Batch correction": 0.7}
        return pd.DataFrame([values], index=keys)

    monkeypatch.setattr("scgenemamba.metrics._scoring.integration_scores", scores)
    monkeypatch.setattr("scgenemamba.metrics._validate.check_scib_metrics", lambda: None)


def compare(adata, out, methods, **options):
    defaults = {"batch_key": "batch", "labels_key": "cell_type", "seeds": 1, "progress": lambda line: None}
    return metrics.benchmark(adata, out=out, methods=methods, **{**defaults, **options})


def test_labels_of_the_query_are_hidden_and_cells_are_the_same(adata, tmp_path):
    before = adata.copy()
    spies = [Spy("a"), Spy("b")]
    compare(adata, tmp_path, spies, seeds=2)
    assert len(spies[0].tasks) == len(spies[1].tasks) == 2 + 2 * 2 + 2 + 2
    truth, batch = adata.obs["cell_type"].astype(str).to_numpy(), adata.obs["batch"].to_numpy()
    for one, other in zip(spies[0].tasks, spies[1].tasks, strict=True):
        cells = one.cells.counts()
        assert list(cells.obs) == ["batch"]
        assert one.cells is other.cells
        np.testing.assert_array_equal(cells.X.toarray(), before.X.toarray())
        if one.labels is None:
            continue
        np.testing.assert_array_equal(one.labels, other.labels)
        assert set(one.labels[one.query]) == {HIDDEN}
        np.testing.assert_array_equal(one.labels[one.shown], truth[one.shown])
    by_batch = [task for task in spies[0].tasks if task.labels is not None and len(set(batch[task.query])) == 1]
    assert {batch[task.query][0] for task in by_batch} == {"batch0", "batch1"}
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert not adata.obsm and not adata.uns


def test_tables_and_files(adata, tmp_path):
    result = compare(adata, tmp_path, [Spy(), Spy("mine", ours=True), "majority"], seeds=2, command="the command")
    files = {path.name for path in tmp_path.iterdir()}
    assert files >= {"table.md", "integration.csv", "annotation.csv", "per_class.csv", "results.json", "embeddings.npz"}
    table = (tmp_path / "table.md").read_text()
    assert table == result.table()
    assert "the command" in table and "A quick run" not in table
    assert "macro-F1: mine ties with the best rival, spy, by +0.000" in table
    assert "| majority (control) | no |" in table
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["command"] == "the command" and record["settings"]["seeds"] == 2
    assert record["cells"]["batches"] == adata.obs["batch"].value_counts().to_dict()
    assert {row["method"] for row in record["annotation"]} == {"spy", "mine", "majority"}
    assert "torch" in record["versions"]
    scores = result.annotation.set_index("method")["accuracy"]
    assert scores["spy"].min() > 0.8 > scores["majority"].max()
    with np.load(tmp_path / "embeddings.npz") as kept:
        assert kept["spy"].shape == kept["spy (labels)"].shape == (adata.n_obs, 30)
        np.testing.assert_array_equal(kept["label"], adata.obs["cell_type"].astype(str))


def test_held_out_cells_of_one_batch_are_scored_on_biology_only(tmp_path):
    adata = make_adata(n_cells=240)
    result = compare(adata, tmp_path, [Spy()], splits=["by batch", "scarce", "random"], tasks=["label-aware"])
    rows = result.integration.set_index(["split", "cells"]).sort_index()
    assert (rows["labels"] == "shown").all()
    assert (rows.xs("all", level="cells")["Total"] == 0.6).all()
    assert rows.loc[("by batch", "held-out"), "Bio conservation"].tolist() == [0.5, 0.5]
    assert rows.loc[("by batch", "held-out"), "Total"].isna().all()
    assert (rows.loc[("scarce", "held-out"), "Total"] == 0.6).all()
    # a fifth of 240 cells is too few
    assert rows.loc[[("random", "held-out")], "note"].str.startswith("not scored").all()
    assert "Held-out cells: (one batch, so conservation only)" in result.table()


def test_an_interrupted_benchmark_goes_on(adata, tmp_path):
    first, broken = Spy("first"), Spy("second", error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        compare(adata, tmp_path, [first, broken], splits=["random"])
    assert len(first.tasks) == 1
    first, second = Spy("first"), Spy("second")
    lines = []
    result = compare(adata, tmp_path, [first, second], splits=["random"], progress=lines.append)
    assert (len(first.tasks), len(second.tasks)) == (1, 2)
    assert "3 runs to do" in lines[0] and "1 finished before" in lines[0]
    again = [Spy("first"), Spy("second")]
    repeated = compare(adata, tmp_path, again, splits=["random"], progress=lines.append)
    assert not again[0].tasks and not again[1].tasks
    pd.testing.assert_frame_equal(repeated.annotation, result.annotation)
    pd.testing.assert_frame_equal(repeated.integration, result.integration)
    assert not list(tmp_path.rglob("*partial*"))


@pytest.mark.parametrize("change", ["counts", "labels", "batch", "options", "quick", "seeds"])
def test_what_has_changed_is_not_reused(adata, tmp_path, change):
    compare(adata, tmp_path, [Spy()], splits=["scarce"], tasks=["annotation"])
    options, spy = {}, Spy()
    if change == "counts":
        adata.X[3, 0] += 1
    elif change == "labels":
        adata.obs["cell_type"] = adata.obs["cell_type"].cat.rename_categories({"type0": "renamed"})
    elif change == "batch":
        adata.obs["batch"] = adata.obs["batch"].to_numpy()[::-1]
    elif change == "options":
        spy = Spy(options={"width": 3})
    else:
        options = {change: 2 if change == "seeds" else True}
    compare(adata, tmp_path, [spy], splits=["scarce"], tasks=["annotation"], **options)
    assert len(spy.tasks) == 1


def test_settings_that_a_rival_does_not_read_leave_its_runs(adata, tmp_path):
    compare(adata, tmp_path, [Spy()], splits=["random"])
    spy = Spy()
    compare(adata, tmp_path, [spy], splits=["random"], preset="tiny", max_epochs=1)
    assert not spy.tasks


def test_a_rival_that_fails_is_recorded_and_the_others_go_on(adata, tmp_path):
    bad = Spy("bad", error=RuntimeError("out of luck\nsecond line"))
    lines = []
    result = compare(adata, tmp_path, [bad, Spy()], splits=["random"], progress=lines.append)
    table = result.table()
    assert "| bad | - | failed |" in table
    assert "* bad: RuntimeError: out of luck" in table
    assert any("bad, random, seed 0: failed: out of luck" in line for line in lines)
    failed = result.annotation.set_index("method")["message"]
    assert failed["bad"].startswith("RuntimeError") and failed["spy"] == ""
    only = compare(adata, tmp_path / "only", [bad, Spy()], splits=["random"], tasks=["annotation"])
    assert only.integration.empty and "Integration" not in only.table()
    # it is tried again, and not remembered as failed
    mended = Spy("bad")
    compare(adata, tmp_path, [mended, Spy()], splits=["random"])
    assert len(mended.tasks) == 2


def test_our_failure_is_raised_when_all_is_written(adata, tmp_path):
    ours, rival = Spy("ours", error=RuntimeError("our defect"), ours=True), Spy()
    with pytest.raises(RuntimeError, match="our defect"):
        compare(adata, tmp_path, [ours, rival], splits=["random"])
    assert len(rival.tasks) == 2
    assert "| ours | - | failed |" in (tmp_path / "table.md").read_text()


def test_a_missing_package_is_named_with_the_remedy(adata, tmp_path):
    lacking = Spy("lacking")
    lacking.packages = {"no_such_package": "pip install no-such-package"}
    result = compare(adata, tmp_path, [lacking, Spy()], splits=["random"])
    assert "no_such_package is not installed: pip install no-such-package" in result.table()
    assert not lacking.tasks


def test_types_that_nobody_was_shown_are_scored_by_novelty(adata, tmp_path):
    labels = adata.obs["cell_type"].astype(str)
    labels[(labels == "type2") & (adata.obs["batch"] == "batch1")] = "type1"
    adata.obs["cell_type"] = labels
    rows = compare(adata, tmp_path, [Spy()], splits=["by batch"], tasks=["annotation"]).annotation.set_index("fold")
    assert rows.loc["batch0", "n_new"] == ((labels == "type2") & (adata.obs["batch"] == "batch0")).sum()
    assert 0 <= rows.loc["batch0", "novelty_auroc"] <= 1
    assert np.isnan(rows.loc["batch1", "novelty_auroc"])
    assert rows.loc["batch0", "accuracy"] > rows.loc["batch0", "accuracy_all"]


def test_cells_without_label_or_counts_are_left_out_and_names_may_repeat(adata, tmp_path, messages):
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(object)
    adata.obs.iloc[:5, adata.obs.columns.get_loc("cell_type")] = np.nan
    adata.X = adata.X.toarray()
    adata.X[7] = 0
    adata.var["symbol"] = ["same", "same", *adata.var_names[2:]]
    adata.obs_names = ["cell"] * adata.n_obs
    spy = Spy()
    compare(adata, tmp_path, [spy], splits=["random"], gene_key="symbol")
    cells = spy.tasks[0].cells
    assert cells.n_obs == adata.n_obs - 6
    assert cells.counts().var["gene"].tolist() == adata.var["symbol"].tolist()
    assert list(cells.names[:3]) == ["5", "6", "8"]
    assert any("5 cells without cell_type, 1 cells without counts" in text for text in messages)


def test_counts_are_recovered_from_logarithms(adata, tmp_path):
    import scanpy as sc

    adata.X = adata.X.toarray()
    adata.X[:, :5] = 1  # a cell's smallest count is 1, so its counts can be told
    normalised = adata.copy()
    sc.pp.normalize_total(normalised, target_sum=1e4)
    sc.pp.log1p(normalised)
    spy = Spy()
    compare(normalised, tmp_path, [spy], splits=["random"])
    np.testing.assert_array_equal(spy.tasks[0].cells.counts().X.toarray(), adata.X)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_key": "donor"}, KeyError, "'donor' not found in adata.obs; it has"),
        ({"labels_key": "type"}, KeyError, "'type' not found in adata.obs; it has"),
        ({"gene_key": "symbol"}, KeyError, "'symbol' not found in adata.var"),
        ({"layer": "raw"}, ValueError, "'raw' not found in adata.layers"),
        ({"methods": ["scVI", "GPT"]}, ValueError, "Unknown method 'GPT'; choose from PCA"),
        ({"methods": [Spy(), Spy()]}, ValueError, "More than one method is called spy"),
        ({"tasks": ["speed"]}, ValueError, "Unknown task 'speed'; choose from integration"),
        ({"splits": ["by donor"]}, ValueError, "Unknown split 'by donor'; choose from by batch"),
        ({"methods": ["PCA"], "tasks": ["annotation"]}, ValueError, "None of PCA does annotation"),
        ({"seeds": 0}, ValueError, "at least 1"),
    ],
)
def test_bad_arguments_are_named_before_any_work(adata, tmp_path, options, error, message):
    spy = Spy()
    with pytest.raises(error, match=message):
        compare(adata, tmp_path / "out", **{"methods": [spy], **options})
    assert not spy.tasks
    assert not (tmp_path / "out" / "table.md").exists()


def test_one_batch_and_no_counts_are_refused(adata, tmp_path):
    one = adata.copy()
    one.obs["batch"] = "a"
    with pytest.raises(ValueError, match="one batch, 'a'.*'annotation' with the splits 'random' and 'scarce'"):
        compare(one, tmp_path, [Spy()])
    assert not compare(one, tmp_path, [Spy()], tasks=["annotation"], splits=["random"]).annotation.empty
    with pytest.raises(ValueError, match="No batch can be a query"):
        compare(one, tmp_path, [Spy()], tasks=["annotation"])
    fractions = adata.copy()
    fractions.X = fractions.X.toarray() * 1.37 + np.random.default_rng(0).random(fractions.shape) * 30
    with pytest.warns(UserWarning, match="not integers"), pytest.raises(ValueError, match="needs counts"):
        compare(fractions, tmp_path, [Spy()])


def test_names_of_methods_are_forgiving():
    from scgenemamba.metrics._methods import resolve_methods

    names = [
        method.name for method in resolve_methods(["scvi", "logistic-regression", "scANVI + scArches", "knn on pca"])
    ]
    assert names == ["scVI", "logistic regression", "scANVI + scArches", "kNN on PCA"]
    assert [method.name for method in resolve_methods(None)] == metrics.method_names()
    assert len(set(metrics.method_names())) == 17


def test_the_large_data_sets_batches_come_first(tmp_path):
    adata = make_adata(n_cells=90, n_batches=3)
    spy = Spy()
    compare(adata, tmp_path, [spy], splits=["by batch"], tasks=["annotation"], max_folds=2)
    sizes = adata.obs["batch"].value_counts().to_numpy()
    assert [task.query.sum() for task in spy.tasks] == sizes[:2].tolist()
