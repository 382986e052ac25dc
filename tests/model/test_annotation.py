"""Annotation by a model: fitted after training, saved, carried to queries, and refused with a way out."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from safetensors.numpy import load_file, save_file

from scgenemamba import GeneMambaModel, tl
from scgenemamba.train._annotation._fit import _MIN_CALIBRATION
from tests.conftest import make_adata

from .conftest import TINY

FILE = "annotation.safetensors"
QUICK = {"max_epochs": 1, "batch_size": 64, "enable_progress_bar": False}


N = 240


def cells_of(n_cells=N, seed=0, **options):
    return make_adata(n_cells, n_genes=60, n_types=3, n_batches=2, seed=seed, **options)


def train_on(adata, **setup):
    scvi.settings.seed = 0
    GeneMambaModel.setup_anndata(adata, batch_key="batch", **setup)
    model = GeneMambaModel(adata, **TINY)
    model.train(**{**QUICK, "max_epochs": 3})
    return model


@pytest.fixture(scope="module")
def model():
    """Annotated model of two batches, one without labels; do not change it."""
    adata = cells_of()
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(str)
    adata.obs.loc[adata.obs["batch"] == "batch1", "cell_type"] = "Unknown"
    return train_on(adata, labels_key="cell_type")


@pytest.fixture(scope="module")
def without_labels():
    """Model that was trained without labels; do not change it."""
    return train_on(cells_of())


@pytest.fixture
def query():
    adata = cells_of(100, seed=5)
    adata.obs["batch"] = "new"
    del adata.obs["cell_type"]
    return adata


def copy_of(model, folder):
    """The same model, to be changed."""
    model.save(folder, overwrite=True, save_anndata=True)
    return GeneMambaModel.load(folder)


def answers(model, adata=None, **options):
    return (
        model.predict(adata, soft=True, **options),
        model.predict_sets(adata, **options),
        model.novelty_score(adata, **options),
    )


def assert_same(one, other, **tolerance):
    check = pd.testing.assert_frame_equal
    check(one[0], other[0], **(tolerance or {"check_exact": True}))
    check(one[1], other[1])
    np.testing.assert_allclose(one[2], other[2], rtol=tolerance.get("rtol", 0))


# --- what a trained model says


def test_training_fits_an_annotation(model):
    assert model.labels == ["type0", "type1", "type2"]
    truth = model.adata.obs["cell_type"].to_numpy()
    known = truth != "Unknown"
    assert (model.predict()[known] == truth[known]).mean() > 0.9
    probabilities, sets, novelty = answers(model)
    assert probabilities.dtypes.eq(np.float32).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert sets.dtypes.eq(bool).all()
    assert list(sets.columns) == list(probabilities.columns) == model.labels
    assert novelty.shape == (N,)
    assert novelty.dtype == np.float32
    assert list(sets.index) == list(model.adata.obs_names)
    # the batch without labels votes
    assert list(model._annotator().neighbourhood.batches) == [1]


def test_batch_size_and_order_do_not_matter(model):
    rows = np.random.default_rng(0).permutation(N)[:40]
    together = answers(model)
    for options in ({"batch_size": 7}, {}):
        some = answers(model, indices=rows, **options)
        wanted = together[0].iloc[rows], together[1].iloc[rows], together[2][rows]
        assert_same(some, wanted, rtol=1e-3, atol=1e-5)
    alone = model.predict(indices=[rows[0]], soft=True)
    np.testing.assert_allclose(alone, together[0].iloc[rows[:1]], atol=1e-5)


def test_cells_are_worked_off_in_pieces(model, monkeypatch):
    together = answers(model)
    monkeypatch.setattr("scgenemamba.model._annotation._CELLS_AT_A_TIME", 100)
    assert [len(part) for part in model._features(batch_size=64)] == [128, 112]
    assert_same(answers(model, batch_size=64), together, rtol=1e-3, atol=1e-5)


def test_boolean_indices_and_dataloaders(model):
    mask = np.arange(N) % 5 == 0
    picked = model.predict(indices=np.flatnonzero(mask))
    assert list(picked) == list(model.predict()[mask])
    loader = model._make_data_loader(adata=model.adata, indices=np.flatnonzero(mask))
    table = model.predict(dataloader=loader, soft=True)
    assert list(table.index) == list(range(N // 5))
    assert list(table.idxmax(axis=1)) == list(picked)


def test_held_out_cells_calibrate(model, tmp_path):
    adata = model.adata.copy()
    GeneMambaModel.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    other = GeneMambaModel(adata, **TINY)
    other.train(**QUICK, train_size=0.3, validation_size=0.4)
    held_out = np.concatenate([other.validation_indices, other.test_indices])
    labelled = (adata.obs["cell_type"] != "Unknown").to_numpy()
    assert labelled[held_out].sum() >= _MIN_CALIBRATION
    assert len(other._annotator().scores) == labelled[held_out].sum()


# --- one pass


def test_annotate_reads_the_cells_once(model, query, monkeypatch):
    passes = []
    encoded = GeneMambaModel._encoded
    monkeypatch.setattr(GeneMambaModel, "_encoded", lambda self, *a, **k: passes.append(1) or encoded(self, *a, **k))
    tl.annotate(model, query, majority_voting=True, batch_size=50)
    assert len(passes) == 1
    monkeypatch.undo()
    probabilities, sets, novelty = answers(model, query)
    np.testing.assert_allclose(query.obsm["genemamba_probabilities"], probabilities, atol=1e-5)
    np.testing.assert_allclose(query.obs["genemamba_novelty"], novelty, rtol=1e-3)
    joined = [" | ".join(sets.columns[row]) for row in sets.to_numpy()]
    assert list(query.obs["genemamba_set"]) == joined
    said = model._annotated(query, coverage=0.9)
    np.testing.assert_array_equal(said.latent, model.get_latent_representation(query))


# --- other labels, other cells


@pytest.mark.parametrize("kind", ["text", "int", "float", "categorical"])
def test_other_labels_on_a_model_without_labels(without_labels, kind, tmp_path):
    model = copy_of(without_labels, tmp_path / "copy")
    adata = model.adata
    with pytest.raises(ValueError, match=r"no labels.*fit_annotation"):
        model.predict()
    assert model.labels == []
    codes = adata.obs["cell_type"].cat.codes.to_numpy()
    column = {
        "text": pd.Series(np.char.add("T", codes.astype(str)), index=adata.obs_names, dtype=object),
        "int": pd.Series(codes.astype(int), index=adata.obs_names),
        "float": pd.Series(codes.astype(float), index=adata.obs_names),
        "categorical": adata.obs["cell_type"].copy(),
    }[kind]
    if kind == "float":
        column.iloc[:50] = np.nan
    if kind in ("text", "categorical"):
        if kind == "categorical":
            column = column.cat.add_categories(["Unknown", "never"])
        column.iloc[:50] = np.nan
        column.iloc[50:60] = "Unknown"
    adata.obs["mine"] = column
    model.fit_annotation(labels_key="mine")
    n_left = {"int": N, "float": N - 50}.get(kind, N - 60)
    assert len(model._annotator().scores) <= n_left
    assert len(model.labels) == 3
    assert "Unknown" not in model.labels
    right = model.predict()[60:] == np.asarray(column)[60:]
    assert right.mean() > 0.9
    wanted = answers(model)
    model.save(tmp_path / "scvi")
    model.save_pretrained(tmp_path / "ours")
    for again in (
        GeneMambaModel.load(tmp_path / "scvi", adata),
        GeneMambaModel.from_pretrained(tmp_path / "ours", adata.copy()),
        GeneMambaModel.from_pretrained(tmp_path / "ours"),
    ):
        found = answers(again, adata.copy())
        assert_same(found, wanted)
        assert list(again.predict(adata)) == list(model.predict())
        again._annotator()


def test_other_labels_replace_those_of_setup_and_training_brings_them_back(model, tmp_path):
    model = copy_of(model, tmp_path)
    model.adata.obs["half"] = np.where(np.arange(N) < N // 2, "first", "second")
    model.fit_annotation(labels_key="half", indices=np.arange(0, N, 2))
    assert model.labels == ["first", "second"]
    assert set(model.predict()) <= {"first", "second"}
    before = model.annotation_["heads.latent_weight"]
    model.train(**QUICK)
    assert model.labels == ["type0", "type1", "type2"]
    after = model.annotation_["heads.latent_weight"]
    assert after.shape != before.shape
    model.train(**QUICK)
    assert not np.array_equal(model.annotation_["heads.latent_weight"], after)


def test_other_cells_can_be_fitted_to(model, tmp_path):
    model = copy_of(model, tmp_path)
    other = cells_of(100, seed=3)
    other.obs["batch"] = "elsewhere"
    other.obs["mine"] = other.obs["cell_type"].astype(str).str.upper()
    model.fit_annotation(other, labels_key="mine")
    assert (model.predict(other) == other.obs["mine"]).mean() > 0.9
    assert not len(model._annotator().neighbourhood.batches)


def test_calibrating_changes_sets(model, tmp_path):
    changed = copy_of(model, tmp_path)
    other = cells_of(100, seed=3)
    # half of the labels are wrong: only large sets hold them
    other.obs["cell_type"] = np.where(np.arange(100) % 2, other.obs["cell_type"], "type0")
    other.obs["mine"] = other.obs["cell_type"]
    changed.calibrate(other)
    assert changed.predict_sets(other).to_numpy().sum() > model.predict_sets(other).to_numpy().sum()
    np.testing.assert_array_equal(changed.novelty_score(other), model.novelty_score(other))
    once = changed.annotation_["scores"]
    changed.calibrate(other, indices=np.arange(60), labels_key="mine")
    assert len(once) == 100
    assert len(changed.annotation_["scores"]) == 60


def test_full_sets_for_want_of_calibration_cells_are_warned_of(model, tmp_path, recwarn):
    changed, other = copy_of(model, tmp_path), cells_of(100, seed=3)
    changed.calibrate(other, indices=np.arange(19))
    assert not changed.predict_sets(other, coverage=0.95).to_numpy().all()
    assert not [warning for warning in recwarn if "calibration cells" in str(warning.message)]
    changed.calibrate(other, indices=np.arange(18))
    with pytest.warns(UserWarning, match=r"0\.95 takes 19 calibration cells, there are 18"):
        sets = changed.predict_sets(other, coverage=0.95)
    assert sets.to_numpy().all()


# --- refusals


def test_refusals_name_the_way_out(model, without_labels, query):
    with pytest.raises(ValueError, match="coverage"):
        model.predict_sets(coverage=90)
    for coverage in (0, 1, float("nan")):
        with pytest.raises(ValueError, match="coverage"):
            model.predict_sets(coverage=coverage)
    for method in ("predict_sets", "novelty_score", "calibrate"):
        with pytest.raises(ValueError, match="fit_annotation"):
            getattr(without_labels, method)()
    with pytest.raises(ValueError, match="labels_key"):
        without_labels.fit_annotation()
    with pytest.raises(ValueError, match="labels_key"):
        model.fit_annotation(indices=np.flatnonzero(model.adata.obs["batch"] == "batch1"))
    with pytest.raises(KeyError, match="nothing not found in adata.obs"):
        model.fit_annotation(labels_key="nothing")
    with pytest.raises(ValueError, match="it knows 'type0'"):
        model.calibrate(query)
    query.obs["cell_type"] = "new type"
    with pytest.raises(ValueError, match="it knows 'type0'"):
        model.calibrate(query)
    query.obs["empty"] = "Unknown"
    with pytest.raises(ValueError, match="No cell has a label"):
        model.fit_annotation(query, labels_key="empty")


def test_batches_without_expression_are_refused(model):
    batches = [
        {key: value for key, value in batch.items() if key not in ("expression", "total")} for batch in loader(model)
    ]
    for method in (model.predict, model.predict_sets, model.novelty_score):
        with pytest.raises(ValueError, match="expression of genes.*adata="):
            method(dataloader=batches)
    assert model.get_latent_representation(dataloader=batches).shape == (N, TINY["n_latent"])


def loader(model):
    return model._make_data_loader(adata=model.adata, batch_size=128)


def test_a_model_without_data_asks_for_some(model, tmp_path):
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="adata="):
        GeneMambaModel.from_pretrained(tmp_path).predict()


# --- files


def test_the_files_of_a_model_without_annotation(model, without_labels, tmp_path):
    model.save_pretrained(tmp_path)
    assert (tmp_path / FILE).is_file()
    without_labels.save_pretrained(tmp_path)
    assert not (tmp_path / FILE).exists()
    assert GeneMambaModel.from_pretrained(tmp_path).labels == []


def break_file(path, how):
    arrays = load_file(path)
    if how == "no file":
        path.unlink()
    elif how == "cut off":
        path.write_bytes(path.read_bytes()[:-100])
    elif how == "text":
        path.write_text("no arrays")
    elif how == "bfloat16":
        from safetensors.torch import save_file as save_tensors

        save_tensors({name: torch.from_numpy(array).to(torch.bfloat16) for name, array in arrays.items()}, path)
    else:
        change = {
            "missing": lambda: arrays.pop("scores"),
            "more": lambda: arrays.update(more=np.zeros(3)),
            "NaN": lambda: arrays.update(scores=np.full(30, np.nan, dtype=np.float32)),
            "scalar": lambda: arrays.update({"novelty.components": np.float32(1).reshape(())}),
            "scalar heads": lambda: arrays.update({"heads.gene_weight": np.float32(1).reshape(())}),
            "integers": lambda: arrays.update({"heads.gene_bias": np.zeros(3, dtype=np.int64)}),
            "fewer labels": lambda: arrays.update({"heads.gene_bias": arrays["heads.gene_bias"][:2]}),
            "fewer genes": lambda: arrays.update(
                {name: arrays[name][:10] for name in ("heads.gene_weight", "novelty.center", "novelty.components")}
            ),
        }[how]
        change()
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, path)


BROKEN = (
    "no file, cut off, text, bfloat16, missing, more, NaN, scalar, scalar heads, integers, fewer labels, fewer genes"
)


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("how", BROKEN.split(", "))
def test_a_broken_file_is_named(saved, tmp_path, how):
    folder = tmp_path / "broken"
    shutil.copytree(saved, folder)
    break_file(folder / FILE, how)
    with pytest.raises((ValueError, FileNotFoundError), match=FILE.replace(".", r"\.")):
        GeneMambaModel.from_pretrained(folder)


@pytest.mark.parametrize("labels", [["a", "b"], ["a", "a", "b"], [["a"], "b", "c"], [None, "b", "c"], "abc"])
def test_labels_that_do_not_fit_are_refused(saved, tmp_path, labels):
    folder = tmp_path / "broken"
    shutil.copytree(saved, folder)
    config = json.loads((folder / "config.json").read_text())
    config["attributes"]["annotation_labels_"] = labels
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"annotation"):
        GeneMambaModel.from_pretrained(folder)


def test_a_saved_annotation_is_the_same(model, saved, tmp_path, query):
    wanted = answers(model, query.copy())
    again = GeneMambaModel.from_pretrained(saved)
    assert_same(answers(again, query.copy()), wanted)
    for name, array in model.annotation_.items():
        assert again.annotation_[name].shape == array.shape, name
        assert again.annotation_[name].dtype == array.dtype, name
    # and once more
    again.save_pretrained(tmp_path)
    assert_same(answers(GeneMambaModel.from_pretrained(tmp_path), query), wanted)


def test_models_saved_before_there_was_an_annotation_predict(saved, tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(saved, folder)
    config = json.loads((folder / "config.json").read_text())
    del config["attributes"]["annotation_labels_"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / FILE).unlink()
    old = GeneMambaModel.from_pretrained(folder)
    adata = cells_of(50)
    assert set(old.predict(adata)) <= {"type0", "type1", "type2"}
    with pytest.raises(ValueError, match="fit_annotation"):
        old.predict_sets(adata)
    tl.annotate(old, adata, coverage=None)
    with pytest.raises(ValueError, match="fit_annotation") as error:
        tl.annotate(old, adata)
    assert "coverage=None" in error.value.__notes__[0]


# --- queries


@pytest.mark.parametrize("how", ["model", "saved", "pretrained"])
def test_a_query_is_annotated_at_once_and_votes_when_trained(model, saved, query, tmp_path, how):
    reference = {"model": model, "pretrained": saved, "saved": tmp_path}[how]
    if how == "saved":
        model.save(tmp_path, overwrite=True)
    before, on_query = answers(model), answers(model, query.copy())
    mapped = GeneMambaModel.load_query_data(query, reference)
    assert_same(answers(mapped), on_query)
    mapped.train(**QUICK)
    # the reference says what it said, also as seen by the model of the query
    assert_same(answers(model), before)
    assert_same(answers(mapped, model.adata.copy()), before)
    voting = mapped._annotator().neighbourhood
    assert list(voting.batches) == [1, 2]
    after = answers(mapped)
    assert not np.array_equal(after[0], on_query[0])
    assert after[1].any(axis=1).all()
    # what the query adds to all its cells is taken off
    np.testing.assert_allclose(after[2] / on_query[2], np.exp(-mapped._annotator().scale.shifts[-1]), rtol=1e-4)
    assert mapped._annotator().scale.shifts[-1] >= 0
    truth = cells_of(100, seed=5).obs["cell_type"]
    assert (mapped.predict() == truth).mean() > 0.8
    # alone as among others, also when it is saved
    mapped.save_pretrained(tmp_path / "mapped")
    again = GeneMambaModel.from_pretrained(tmp_path / "mapped")
    np.testing.assert_allclose(again.predict(query, indices=[3], soft=True), after[0].iloc[[3]], atol=1e-5)


def test_the_query_of_a_model_with_fitted_labels_votes_too(without_labels, query, tmp_path):
    reference = copy_of(without_labels, tmp_path)
    reference.fit_annotation(labels_key="cell_type")
    mapped = GeneMambaModel.load_query_data(query, reference)
    assert mapped.labels == ["type0", "type1", "type2"]
    mapped.train(**QUICK)
    assert list(mapped._annotator().neighbourhood.batches) == [2]


def test_an_annotation_of_another_embedding_is_dropped(model, query, tmp_path, messages):
    mapped = GeneMambaModel.load_query_data(query, model, unfrozen=True)
    mapped.train(**QUICK)
    assert not mapped.annotation_
    assert any("fit_annotation" in text for text in messages)
    assert set(mapped.predict()) <= set(model.labels)
    mapped.save_pretrained(tmp_path)
    assert not GeneMambaModel.from_pretrained(tmp_path).annotation_


def test_cells_without_some_genes(model):
    # a third of the genes, at random, of cells that the model knows
    cells = model.adata.copy()
    truth = cells_of().obs["cell_type"].to_numpy()
    kept = np.random.default_rng(0).permutation(cells.n_vars)[: 2 * cells.n_vars // 3]
    smaller = cells[:, np.sort(kept)].copy()
    probabilities, _, novelty = answers(model, smaller)
    assert (probabilities.idxmax(axis=1) == truth).mean() > 0.8
    # not all of them are unknown: what was not measured does not count
    assert (novelty > 1).mean() < 0.5


def test_training_on_a_datamodule_leaves_the_classifier(model, tmp_path):
    from scgenemamba.model._loading import DataSplitter

    adata = cells_of(100)
    GeneMambaModel.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    other = GeneMambaModel(adata, **TINY)
    module = DataSplitter(other.adata_manager, train_size=0.9, batch_size=32)
    module.n_obs, module.n_vars, module.n_batch, module.n_labels = 100, 60, 2, 3
    other.train(**QUICK, datamodule=module)
    assert not other.annotation_
    assert set(other.predict()) <= {"type0", "type1", "type2"}
    # what was fitted before belongs to another embedding
    other.fit_annotation()
    other.train(**QUICK, datamodule=module)
    assert not other.annotation_


def test_a_latent_that_was_never_trained_cannot_be_annotated(model, tmp_path):
    changed = copy_of(model, tmp_path)
    changed.latent_trained_ = False
    with pytest.raises(ValueError, match="train the model first"):
        changed.fit_annotation()


def test_the_embedding_is_as_before(model):
    before = model.get_latent_representation()
    answers(model)
    np.testing.assert_array_equal(model.get_latent_representation(), before)
