"""Attributions of cells to genes: they add up, they are those known by hand, and they need what was learnt."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from scgenemamba import GeneMambaModel, tl
from tests.conftest import make_adata
from tests.model.published import make_published, random_classifier, write_config, write_weights
from tests.tl.threads import with_threads

pytest.importorskip("captum")


def make_model(adata, **arguments):
    GeneMambaModel.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    sizes = {"n_layers": 1, "d_model": 32, "max_tokens": 24, "n_latent": 8, "d_state": 16, **arguments}
    return GeneMambaModel(adata, **sizes)


@pytest.fixture(scope="module")
def model():
    import scvi

    scvi.settings.seed = 0
    model = make_model(make_adata())
    model.train(max_epochs=8, batch_size=32, enable_progress_bar=False)
    return model


@pytest.fixture(scope="module")
def attributions(model):
    return tl.attribute(model, groupby="cell_type", max_cells=5, n_steps=16, silent=True)


def sums(attributions):
    return np.asarray(attributions.X.sum(axis=1)).ravel()


def difference(attributions):
    return (attributions.obs["attribution_score"] - attributions.obs["attribution_baseline"]).to_numpy()


def tokens_of(model, row):
    (batch,) = model._make_data_loader(model.adata, indices=[row], batch_size=1)
    return batch["tokens"].numpy()[: model.module.config.max_tokens]


def test_attributions_add_up_to_the_score_of_the_network(model, attributions):
    assert (attributions.obs["attribution_error"] <= 0.01).all()
    np.testing.assert_allclose(sums(attributions), difference(attributions), rtol=0.0101)
    rows = model.adata.obs_names.get_indexer(attributions.obs_names)
    chances = model._per_cell(model.module.classify, None, rows, None, None).astype(np.float64)
    assert attributions.obs["attribution_target"].tolist() == [model.labels[i] for i in chances.argmax(1)]
    best = chances.max(1)
    np.testing.assert_allclose(attributions.obs["attribution_score"], np.log(best / (1 - best)), rtol=1e-3)


def test_each_gene_that_a_cell_shows_has_an_entry(model, attributions):
    assert attributions.var_names.tolist() == list(model.vocabulary.genes)
    for name, row in zip(attributions.obs_names[:5], sp.csr_matrix(attributions.X)[:5], strict=True):
        tokens = tokens_of(model, model.adata.obs_names.get_loc(name))
        assert sorted(row.indices) == sorted(tokens - 2)


def test_any_batch_size_gives_the_same(model):
    first, second = (
        tl.attribute(model, indices=range(6), n_steps=16, tolerance=0.1, batch_size=size, silent=True)
        for size in (128, 4)
    )
    np.testing.assert_allclose(first.X.toarray(), second.X.toarray(), atol=1e-5)
    alone = tl.attribute(model, indices=[5], n_steps=16, tolerance=0.1, silent=True)
    np.testing.assert_allclose(alone.X.toarray(), first.X[[5]].toarray(), atol=1e-5)


def test_threads_change_nothing(model):
    found = with_threads(
        lambda: tl.attribute(model, indices=range(4), n_steps=16, tolerance=0.1, silent=True).X.toarray()
    )
    np.testing.assert_allclose(*found, atol=1e-5)


def test_the_model_and_the_cells_are_left_as_they_are(model):
    before = model.adata.obs.copy(), dict(model.adata.uns), {k: v.clone() for k, v in model.module.state_dict().items()}
    learnt = [parameter.requires_grad for parameter in model.module.parameters()]
    tl.attribute(model, indices=range(3), n_steps=4, tolerance=1.0, silent=True)
    pd.testing.assert_frame_equal(model.adata.obs, before[0])
    assert model.adata.uns.keys() == before[1].keys()
    assert all(torch.equal(value, before[2][name]) for name, value in model.module.state_dict().items())
    assert model.module.half_precision
    assert [parameter.requires_grad for parameter in model.module.parameters()] == learnt


def test_what_is_linear_is_known_exactly():
    """A logit of the readout is a sum over tokens."""
    adata = make_adata(n_cells=40, n_types=2)
    model = make_model(adata, n_layers=0)
    readout = model.module.objectives["cell_type"].readout
    with torch.no_grad():
        readout.weight.normal_()

    def score(encoded, presence):
        return readout(encoded.tokens, encoded.cu_seqlens, None, presence) + 0.0 * encoded.mean[:, :1]

    from scgenemamba.tl._attribution._run import Question, Settings, as_matrix, explain

    parts = explain(model, model.module, model.adata, np.arange(5), Question(score, [], 1), Settings(silent=True))
    matrix = as_matrix(parts, len(model.vocabulary)).toarray()
    weight = readout.weight.detach().numpy()[:, 1]
    for row in range(5):
        tokens = tokens_of(model, row)
        expected = np.zeros(len(model.vocabulary))
        expected[tokens - 2] = 10 * weight[tokens] * (1 - np.arange(len(tokens)) / len(tokens))
        np.testing.assert_allclose(matrix[row], expected, rtol=1e-4, atol=1e-5)
    assert (np.concatenate([part.steps for part in parts]) == 20).all()


def test_a_direction_between_groups(model):
    found = tl.attribute(model, groupby="cell_type", direction=("type0", "type1"), max_cells=3, n_steps=32, silent=True)
    latent = model.get_latent_representation()
    types = model.adata.obs["cell_type"].to_numpy()
    way = latent[types == "type1"].mean(0) - latent[types == "type0"].mean(0)
    way /= np.linalg.norm(way)
    rows = model.adata.obs_names.get_indexer(found.obs_names)
    np.testing.assert_allclose(found.obs["attribution_score"], latent[rows] @ way, atol=1e-5)
    assert list(found.obs["attribution_target"].cat.categories) == ["type0 to type1"]
    assert np.median(found.obs["attribution_error"]) <= 0.01
    given = tl.attribute(model, direction=way, indices=rows[:3], n_steps=32, silent=True)
    np.testing.assert_allclose(given.X.toarray(), found.X[:3].toarray(), atol=1e-5)


def test_a_label_is_explained_in_all_cells(model):
    found = tl.attribute(model, target="type2", indices=[0, 1, 2], n_steps=16, silent=True)
    assert set(found.obs["attribution_target"]) == {"type2"}


def test_labels_of_a_later_annotation_are_explained_on_the_latent(model):
    fitted = make_model(make_adata())
    fitted.train(max_epochs=1, batch_size=64, enable_progress_bar=False)
    fitted.adata.obs["half"] = np.where(np.arange(fitted.adata.n_obs) % 2, "odd", "even")
    fitted.fit_annotation(labels_key="half")
    found = tl.attribute(fitted, target="odd", indices=range(4), n_steps=32, silent=True)
    arrays = fitted.annotation_
    logits = fitted.get_latent_representation(indices=range(4)) @ arrays["heads.latent_weight"]
    logits = logits + arrays["heads.latent_bias"]
    np.testing.assert_allclose(found.obs["attribution_score"], logits[:, 1] - logits[:, 0], atol=1e-4)


def test_a_published_classifier_is_explained(tmp_path):
    from tests.model.test_published import human_data

    tensors, classifier = make_published(tmp_path / "model", cls=True), random_classifier(64, 4)
    write_weights(tmp_path / "model", {**tensors, **classifier})
    write_config(tmp_path / "model", id2label={str(i): name for i, name in enumerate(["B", "T", "NK", "Mono"])})
    model = GeneMambaModel.from_pretrained(tmp_path / "model", pooling="cls")
    adata = human_data()
    soft = model.predict(adata, soft=True, indices=[0, 1])
    found = tl.attribute(model, adata, indices=[0, 1], n_steps=32, tolerance=0.05, silent=True)
    assert found.obs["attribution_target"].tolist() == soft.idxmax(axis=1).tolist()
    best = soft.max(axis=1).to_numpy(np.float64)
    np.testing.assert_allclose(found.obs["attribution_score"], np.log(best / (1 - best)), rtol=1e-3)
    np.testing.assert_allclose(sums(found), difference(found), rtol=0.06)


def test_shuffled_weights_lose_the_attributions(model):
    check = tl.attribution_check(model, groupby="cell_type", max_cells=5, n_steps=16, silent=True)
    assert check["spearman"].mean() <= 0.2
    assert (check["error"] <= 0.01).all()
    assert len(check) == 15
    again = tl.attribution_check(model, groupby="cell_type", max_cells=5, n_steps=16, silent=True)
    pd.testing.assert_frame_equal(check, again)


def test_genes_of_a_group_are_means_over_its_cells(attributions):
    table = tl.attributed_genes(attributions, "cell_type")
    for group, part in table.groupby("group", observed=True):
        cells = attributions[attributions.obs["cell_type"] == group]
        values = pd.DataFrame(cells.X.toarray(), columns=cells.var_names)
        assert part["rank"].tolist() == list(range(1, len(part) + 1))
        assert part["attribution"].is_monotonic_decreasing
        np.testing.assert_allclose(part["attribution"], values.mean()[part["gene"]], atol=1e-6)
        np.testing.assert_allclose(part["std"], values.std(ddof=0)[part["gene"]], atol=1e-6)
        np.testing.assert_allclose(part["share"], (values != 0).mean()[part["gene"]])
    short = tl.attributed_genes(attributions, "cell_type", n_genes=3, min_share=0.5)
    assert len(short) == 9 and (short["share"] >= 0.5).all()


def test_markers_lead_the_groups(model, attributions):
    """The simulation gives each type genes of its own; they should be what the model goes by."""
    table = tl.attributed_genes(attributions, "cell_type", n_genes=5)
    names = make_adata().var_names
    for i in range(3):
        own = set(names[10 * i : 10 * (i + 1)])
        assert len(own & set(table.loc[table["group"] == f"type{i}", "gene"])) >= 3


def test_a_planted_gene_set_is_found(tmp_path, attributions):
    table = tl.attributed_genes(attributions, "cell_type")
    first = table[table["group"] == "type0"]["gene"]
    sets = {"planted": list(first[:8]), "against": list(first[-8:]), "absent": ["X", "Y"]}
    found = tl.gene_set_scores(table, sets, n_permutations=200, silent=True)
    own = found[found["group"] == "type0"].set_index("set")
    assert list(own.index) == ["planted", "against"]
    assert own.loc["planted", "nes"] > 1.5 and own.loc["planted", "p"] <= 0.01
    assert own.loc["against", "nes"] < 0
    assert set(own.loc["planted", "leading_genes"].split(";")) <= set(first[:8])
    file = tmp_path / "sets.gmt"
    file.write_text("".join("\t".join([name, "", *genes]) + "\n" for name, genes in sets.items()))
    pd.testing.assert_frame_equal(tl.gene_set_scores(table, file, n_permutations=200, silent=True), found)
    with pytest.raises(ValueError, match="No gene set has 5 to 500 of the genes"):
        tl.gene_set_scores(table, {"absent": ["X"]}, silent=True)
    with pytest.raises(KeyError, match="no column 'attribution'"):
        tl.gene_set_scores(table.drop(columns="attribution"), sets)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"target": "type9"}, ValueError, "no label 'type9'.*'type0'"),
        ({"target": "type0", "direction": np.ones(8)}, ValueError, "either `target` or `direction`"),
        ({"direction": np.ones(3)}, ValueError, "must be 8 finite numbers"),
        ({"direction": np.zeros(8)}, ValueError, "not all zero"),
        ({"direction": ("type0", "type1")}, ValueError, "`groupby=`"),
        ({"direction": ("type0", "x"), "groupby": "cell_type"}, ValueError, "in group 'x'; it has 'type0'"),
        ({"groupby": "type"}, KeyError, "no column 'type'"),
        ({"indices": []}, ValueError, "`indices` is empty"),
        ({"max_cells": 0}, ValueError, "at least 1, got 0"),
        ({"n_steps": 0}, ValueError, "`n_steps` must be at least 1"),
        ({"tolerance": 0}, ValueError, "`tolerance` must be above 0"),
        ({"baseline": "zero"}, ValueError, "'mask' or 'mean'"),
    ],
)
def test_bad_arguments_are_named(model, arguments, error, message):
    for call in (tl.attribute, tl.attribution_check):
        with pytest.raises(error, match=message):
            call(model, silent=True, **arguments)


def test_a_model_without_labels_says_so():
    adata = make_adata(n_cells=20)
    GeneMambaModel.setup_anndata(adata)
    model = GeneMambaModel(adata, n_layers=1, d_model=32, max_tokens=24, n_latent=8, d_state=16)
    model.is_trained_ = True
    with pytest.raises(ValueError, match="no labels to explain.*`direction=`"):
        tl.attribute(model)


def test_groups_without_cells_are_named(attributions):
    with pytest.raises(KeyError, match="no column 'cluster'"):
        tl.attributed_genes(attributions, "cluster")
    empty = attributions.copy()
    empty.obs["cluster"] = pd.Categorical([None] * empty.n_obs, categories=["a"])
    with pytest.raises(ValueError, match="no cell has a value in 'cluster'"):
        tl.attributed_genes(empty, "cluster")
    with pytest.raises(ValueError, match="`n_genes` must be at least 1"):
        tl.attributed_genes(attributions, n_genes=0)


def test_cells_that_are_not_complete_are_counted(model):
    with pytest.warns(UserWarning, match=r"attributions of \d+ of 8 cells miss .* raise `n_steps`"):
        tl.attribute(model, indices=range(8), n_steps=1, tolerance=1e-4, silent=True)


@pytest.mark.parametrize("package", ["captum", "gseapy"])
def test_a_missing_extra_is_named(model, attributions, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    if package == "captum":
        monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ImportError, match=rf"{package}: pip install 'scgenemamba\[interpret\]'"):
        if package == "captum":
            tl.attribute(model, silent=True)
        else:
            tl.gene_set_scores(tl.attributed_genes(attributions), {"a": ["b"]})
