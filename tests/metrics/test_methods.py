"""Every method on small data: form of the result, what it may look at, and that it learns."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from scgenemamba.metrics import GeneMamba, Settings, Task
from scgenemamba.metrics._cells import Cells
from scgenemamba.metrics._methods import HIDDEN, METHODS
from scgenemamba.metrics._methods._tuning import validation_cells
from scgenemamba.metrics._quiet import quiet
from scgenemamba.metrics._splits import make_splits
from tests.conftest import make_adata

QUICK = Settings(preset="tiny", max_epochs=1, n_top_genes=50, quick=True)
FULL = Settings(preset="tiny", max_epochs=1, n_top_genes=50)
LABEL_FREE = [method for method in METHODS if method.label_free]
ANNOTATE = [method for method in METHODS if method.annotates]
CLASSIFIERS = [method for method in ANNOTATE if not method.transductive and not method.label_aware]


@pytest.fixture(autouse=True)
def _quiet():
    with quiet():
        yield


@pytest.fixture(scope="module")
def simulated():
    """Cells, labels, and a split by batch."""
    adata = make_adata(n_cells=150, n_genes=80)
    cells = Cells(adata.X, adata.var_names.to_numpy(), adata.obs["batch"].to_numpy())
    labels = adata.obs["cell_type"].to_numpy().astype(str)
    return cells, labels, make_splits(labels, cells.batch, ["by batch"], [0], 1)[0]


def made(method):
    """A method; skips where its package is missing."""
    for package, command in method.packages.items():
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{method.name} needs {package}: {command}")
    return method()


@pytest.mark.parametrize("method", LABEL_FREE, ids=lambda method: method.name)
def test_embedding_of_all_cells(simulated, method):
    cells, labels, _ = simulated
    output = made(method).run(Task(cells, QUICK, seed=0))
    assert output.embedding.shape[0] == cells.n_obs
    assert output.embedding.dtype == np.float32
    assert np.isfinite(output.embedding).all()
    assert output.probabilities is None
    # rows are cells in their order: cells of a type are closer together than others, in all but what is untrained
    if method.name in ("PCA", "HVG", "Harmony", "ComBat"):
        from sklearn.metrics import silhouette_score

        assert silhouette_score(output.embedding, labels) > 0.03


@pytest.mark.parametrize("method", ANNOTATE, ids=lambda method: method.name)
def test_probabilities_of_the_query(simulated, method):
    cells, labels, split = simulated
    task = Task(cells, QUICK, seed=0, labels=split.shown(labels))
    output = made(method).run(task)
    table = output.probabilities
    assert list(table.index) == cells.names[split.query].tolist()
    assert sorted(table.columns) == ["type0", "type1", "type2"]
    np.testing.assert_allclose(table.sum(axis=1), 1, atol=1e-4)
    assert set(output.predicted) <= set(labels)
    assert HIDDEN not in table.columns
    if method in CLASSIFIERS and method.name not in ("majority", "MLP"):
        assert (output.predicted == labels[split.query]).mean() > 0.6
    if method.label_aware:
        assert output.embedding.shape[0] == cells.n_obs
        assert np.isfinite(output.embedding).all()
        assert (np.ptp(output.embedding, axis=0) > 0).any()


@pytest.mark.parametrize("method", CLASSIFIERS, ids=lambda method: method.name)
def test_classifiers_learn_nothing_from_the_query(simulated, method):
    """Whatever the other query cells are, a cell's probabilities are the same."""
    cells, labels, split = simulated
    values = cells.values.toarray()
    watched, others = np.flatnonzero(split.query)[:5], np.flatnonzero(split.query)[5:]
    values[others] = np.random.default_rng(0).poisson(3, size=(len(others), values.shape[1]))
    from scipy.sparse import csr_matrix

    changed = Cells(csr_matrix(values), cells.genes, cells.batch)
    tables = [
        # 200 trees take long, and a choice of their depth is made as that of the others
        made(method)
        .run(Task(source, QUICK if method.name == "XGBoost" else FULL, seed=0, labels=split.shown(labels)))
        .probabilities
        for source in (cells, changed)
    ]
    names = cells.names[watched]
    np.testing.assert_allclose(tables[0].loc[names], tables[1].loc[names], atol=1e-6)
    assert not np.allclose(tables[0], tables[1]) or method.name == "majority"


def test_scvi_is_trained_once_a_seed(simulated, monkeypatch):
    import scvi

    cells, labels, split = simulated
    cells.kept.clear()
    trained = []
    train = scvi.model.SCVI.train
    monkeypatch.setattr(scvi.model.SCVI, "train", lambda self, **options: (trained.append(1), train(self, **options)))
    by_name = {method.name: method for method in METHODS}
    by_name["scVI"]().run(Task(cells, QUICK, seed=0))
    output = by_name["scANVI"]().run(Task(cells, QUICK, seed=0, labels=split.shown(labels)))
    assert len(trained) == 1 and output.seconds_before > 0
    by_name["scVI"]().run(Task(cells, QUICK, seed=1))
    assert len(trained) == 2


def test_a_last_batch_of_one_cell_is_no_end():
    """143 labelled cells: 129 in training, so batches of 128 and 1, which batch norm refuses."""
    adata = make_adata(n_cells=400, n_genes=80)
    cells = Cells(adata.X, adata.var_names.to_numpy(), adata.obs["batch"].to_numpy())
    labels = adata.obs["cell_type"].to_numpy().astype(object)
    labels[143:] = HIDDEN
    by_name = {method.name: method for method in METHODS}
    output = by_name["scANVI"]().run(Task(cells, QUICK, seed=0, labels=labels))
    assert output.embedding.shape == (400, 30)


def test_ablations_of_ours(simulated):
    cells, _, _ = simulated
    narrow = GeneMamba("narrow", model={"n_latent": 4}, train={"max_epochs": 1})
    output = narrow.run(Task(cells, QUICK, seed=0))
    assert output.embedding.shape == (cells.n_obs, 4)
    assert output.details["epochs"] == 1
    assert narrow.identity(QUICK)["options"] == {"model": {"n_latent": 4}, "train": {"max_epochs": 1}}
    assert narrow.identity(QUICK) != GeneMamba("narrow").identity(QUICK)


def test_validation_cells_keep_one_of_each_type_in_training():
    labels = np.repeat(["many", "two", "one"], [50, 2, 1])
    chosen = validation_cells(labels, seed=0)
    assert [int(chosen[labels == name].sum()) for name in ("many", "two", "one")] == [10, 1, 0]
    assert (chosen == validation_cells(labels, seed=0)).all()
    assert (chosen != validation_cells(labels, seed=1)).any()


def test_hyper_parameters_are_chosen(simulated):
    cells, labels, split = simulated
    by_name = {method.name: method for method in METHODS}
    task = Task(cells, FULL, seed=0, labels=split.shown(labels))
    assert "C" in by_name["logistic regression"]().run(task).details["chosen"]
    assert by_name["kNN on PCA"]().run(task).details["chosen"]


def test_splits_hide_what_they_say():
    labels = np.repeat(["a", "b", "rare", "single"], [100, 50, 2, 1])
    batch = np.tile(["x", "y", "z"], 51)
    random, scarce = make_splits(labels, batch, ["random", "scarce"], [0], 5)
    assert [int(random.query[labels == name].sum()) for name in ("a", "b", "rare", "single")] == [20, 10, 1, 0]
    assert [int(scarce.query[labels == name].sum()) for name in ("a", "b", "rare", "single")] == [90, 45, 0, 0]
    other = make_splits(labels, batch, ["random"], [1], 5)[0]
    assert (other.query != random.query).any()
    folds = make_splits(labels, batch, ["by batch"], [0, 1], 5)
    assert sorted(split.fold for split in folds) == ["x", "y", "z"]
    assert all((batch[split.query] == split.fold).all() and split.seed is None for split in folds)
