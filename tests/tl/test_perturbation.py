from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from anndata import AnnData

from scgenemamba import GeneMambaModel, tl
from scgenemamba.tl._perturbation._controls import Controls, beside
from scgenemamba.tl._perturbation._edits import edited
from scgenemamba.tl._perturbation._screen import Screener
from tests.tl.threads import with_threads

WINDOW = 3


@pytest.fixture(scope="module")
def adata() -> AnnData:
    generator = np.random.default_rng(0)
    n_cells, n_genes = 40, 60
    rate = np.exp(generator.normal(size=n_genes))
    groups = np.array(["alpha", "beta"])[np.arange(n_cells) % 2]
    counts = generator.poisson(rate * np.where(groups == "alpha", 1.0, 2.0)[:, None]).astype(np.float32)
    counts[:, :5] *= (groups == "beta")[:, None]
    names = [f"G{i}" for i in range(n_genes)]
    cells = AnnData(counts, obs=pd.DataFrame({"kind": pd.Categorical(groups)}, index=[f"c{i}" for i in range(n_cells)]))
    cells.var_names = names
    return cells


def made(adata: AnnData, **settings: Any) -> GeneMambaModel:
    scvi.settings.seed = 0
    cells = adata.copy()
    GeneMambaModel.setup_anndata(cells, labels_key="kind")
    sizes = {"n_layers": 2, "d_model": 32, "d_state": 16, "max_tokens": 128, "n_latent": 6, "n_decoder_genes": 20}
    model = GeneMambaModel(cells, **{**sizes, **settings})
    # what random weights make of the cells shows as much
    torch.nn.init.normal_(model.module.objectives["cell_type"].readout.weight, std=0.01)
    model.is_trained_ = True
    return model


@pytest.fixture(scope="module")
def model(adata) -> GeneMambaModel:
    return made(adata)


def rankings(model: GeneMambaModel, cells: list[int]) -> list[np.ndarray]:
    ((_, batch),) = model._encoded(None, cells, None, None)
    tokens, bounds = batch["tokens"].numpy(), batch["cu_seqlens"].tolist()
    return [tokens[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]


def embed(model: GeneMambaModel, tokens: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        encoded = model.module.network(torch.from_numpy(tokens), torch.tensor([0, len(tokens)]))
    return encoded.mean[0].double().numpy()


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_rankings_are_edited():
    ranking = np.array([5, 3, 9, 4], dtype=np.int32)
    sets = [np.array(genes, dtype=np.int32) for genes in ([5], [9, 3], [7])]

    def rows(kind: Any, width: int = 10) -> list[list[int]]:
        tokens, bounds = edited(ranking, sets, kind, width)
        return [tokens[a:b].tolist() for a, b in zip(bounds, bounds[1:], strict=False)]

    assert rows("delete") == [[3, 9, 4], [5, 4], [5, 3, 9, 4]]
    assert rows("overexpress") == [[5, 3, 9, 4], [9, 3, 5, 4], [7, 5, 3, 9, 4]]
    assert rows("inhibit") == [[3, 9, 4, 5], [5, 4, 9, 3], [5, 3, 9, 4]]
    # the next gene moves up, and what is moved behind the window is not read
    assert rows("delete", 3) == [[3, 9, 4], [5, 4], [5, 3, 9]]
    assert rows("overexpress", 3) == [[5, 3, 9], [9, 3, 5], [7, 5, 3]]
    assert rows("inhibit", 3) == [[3, 9, 4], [5, 4, 9], [5, 3, 9]]


@pytest.mark.parametrize("kind", ["delete", "overexpress", "inhibit"])
@pytest.mark.parametrize("max_tokens", [128, 30])
def test_exact_effects_are_those_of_the_edited_cell(adata, kind, max_tokens):
    model = made(adata, max_tokens=max_tokens)
    found = tl.perturb(model, kind=kind, method="exact", indices=[3], label="beta", toward="alpha", groupby="kind")
    (ranking,) = rankings(model, [3])
    target = model.get_latent_representation(indices=np.flatnonzero(adata.obs["kind"] == "alpha")).mean(0)
    before = embed(model, ranking[:max_tokens])
    for place in (0, 15, len(ranking) - 1):
        gene = ranking[place]
        rest = ranking[ranking != gene]
        new = {"delete": rest, "overexpress": np.r_[gene, rest], "inhibit": np.r_[rest, gene]}[kind]
        after = embed(model, new[:max_tokens].astype(np.int32))
        column = found[:, model.vocabulary.genes[gene - 2]]
        assert column.layers["distance"].toarray().item() == pytest.approx(distance(before, after), abs=1e-7)
        expected = distance(before, target) - distance(after, target)
        assert column.layers["toward"].toarray().item() == pytest.approx(expected, abs=1e-6)
    assert found.var["n_cells"].sum() == len(ranking) == found.X.nnz
    assert found.layers["exact"].toarray().sum() == len(ranking)


@pytest.mark.parametrize("kind", ["delete", "overexpress", "inhibit"])
@pytest.mark.parametrize("settings", [{}, {"max_tokens": 30}, {"fusion": "gate", "pooling": ("mean",)}])
def test_predictions_find_the_largest_effects(adata, kind, settings):
    model = made(adata, **settings)
    asked = {"kind": kind, "indices": [0, 1], "label": "beta"}
    exact = tl.perturb(model, method="exact", **asked)
    fast = tl.perturb(model, window=WINDOW, n_rescored=5, n_checked=2, **asked)
    told = fast.uns["perturbation"]
    assert told["method"] == "fast"
    assert told["n_exact"] == exact.uns["perturbation"]["n_forwards"]
    assert told["fidelity"]["cell"].tolist() == ["c0", "c1"]
    assert (told["fidelity"]["spearman"] > 0.9).all()
    assert (told["fidelity"]["recall"] >= 0.6).all()
    for name in ("distance", "probability"):
        truth, guess = exact.layers[name].toarray(), fast.layers[name].toarray()
        encoded = fast.layers["exact"].toarray()
        assert np.abs(truth - guess)[encoded].max() < 1e-6
        assert np.corrcoef(truth[exact.X.toarray() != 0], guess[exact.X.toarray() != 0])[0, 1] > 0.95
    rows = fast.layers["exact"].toarray().sum(1)
    assert (rows >= 5).all()


def test_a_wide_window_makes_predictions_exact(model):
    exact = tl.perturb(model, method="exact", indices=[0])
    fast = tl.perturb(model, method="fast", window=100, n_rescored=0, n_checked=0, indices=[0])
    # short cells are encoded
    assert np.abs(exact.X.toarray() - fast.X.toarray()).max() < 1e-6
    assert "fidelity" not in fast.uns["perturbation"]
    narrow = tl.perturb(model, method="fast", window=WINDOW, n_rescored=0, n_checked=0, indices=[0])
    assert not narrow.layers["exact"].toarray().any()
    # the cell, and its neighbourhoods
    assert 2 * WINDOW < narrow.uns["perturbation"]["n_forwards"] <= 2 * WINDOW + 1


def test_batch_size_changes_nothing(model):
    for asked in ({"method": "exact"}, {"method": "fast", "window": WINDOW}, {"genes": ["G1", ("G2", "G3")]}):
        one = tl.perturb(model, indices=[1, 4], batch_size=1, **asked)
        many = tl.perturb(model, indices=[1, 4], batch_size=64, **asked)
        for name in ("distance", "distance_control"):
            assert np.allclose(one.layers[name].toarray(), many.layers[name].toarray(), atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("kind", ["delete", "overexpress", "inhibit"])
def test_cells_screened_together_are_as_alone(model, monkeypatch, kind):
    asked = {"kind": kind, "method": "fast", "window": WINDOW, "n_rescored": 3, "n_checked": 0, "indices": range(9)}
    alone = tl.perturb(model, **asked)
    # as on a GPU
    monkeypatch.setattr(Screener, "tokens_at_a_time", 200)
    together = tl.perturb(model, **asked)
    np.testing.assert_allclose(together.X.toarray(), alone.X.toarray(), atol=1e-5)
    assert together.uns["perturbation"]["n_forwards"] == pytest.approx(alone.uns["perturbation"]["n_forwards"])


def test_threads_change_nothing(model):
    found = with_threads(lambda: tl.perturb(model, indices=[1, 4], window=WINDOW).X.toarray())
    assert np.allclose(*found, atol=1e-6)


def test_given_genes_and_their_controls(model, adata):
    found = tl.perturb(model, genes={"one": "G1", "both": ["G1", "G33"], "rare": ["G2"]}, indices=np.arange(20))
    assert found.var_names.tolist() == ["one", "both", "rare"]
    cells = adata.X[:20] > 0
    expected = [cells[:, 1].sum(), (cells[:, 1] & cells[:, 33]).sum(), cells[:, 2].sum()]
    assert found.var["n_cells"].tolist() == expected
    assert found.obs["kind"].tolist() == adata.obs["kind"].tolist()[:20]
    controls = found.layers["distance_control"][:, 0]
    assert controls.nnz == expected[0]
    assert np.isfinite(controls.data).all()
    # genes that a cell lacks can be added to it
    added = tl.perturb(model, genes="G1", kind="overexpress", indices=np.arange(20))
    assert added.var["n_cells"].tolist() == [20]
    alone = tl.perturb(model, genes="G1", n_controls=0, indices=np.arange(20))
    assert np.isnan(alone.layers["distance_control"].data).all()
    assert tl.perturbation_effects(alone, min_cells=1)["fdr"].isna().all()


def test_effects_over_cells(model):
    perturbed = tl.perturb(model, method="exact", label="beta", indices=np.arange(24))
    table = tl.perturbation_effects(perturbed, groupby="kind", min_cells=5)
    assert list(table.columns) == ["group", "gene", "n_cells", "effect", "std", "control", "p_value", "fdr"]
    assert set(table["group"]) == {"alpha", "beta"}
    row = table[(table["group"] == "beta") & (table["gene"] == "G1")].iloc[0]
    cells = perturbed[perturbed.obs["kind"] == "beta"]
    values = cells[:, "G1"].layers["probability"].tocsc().data
    assert row["n_cells"] == len(values)
    assert row["effect"] == pytest.approx(values.mean(), rel=1e-5)
    assert (table["fdr"] >= table["p_value"]).all()
    # those of alpha do not express the first five
    assert not set(table.loc[table["group"] == "alpha", "gene"]) & {f"G{i}" for i in range(5)}
    assert tl.perturbation_effects(perturbed, effect="distance")["effect"].min() >= 0


def test_planted_effects_stand_out():
    generator = np.random.default_rng(0)
    values = generator.normal(size=(40, 50)).astype(np.float32)
    values[:, 7] += 2
    import scipy.sparse as sp

    layers = {
        "distance": sp.csr_matrix(values),
        "distance_control": sp.csr_matrix(generator.normal(size=(40, 50)) * 0.1),
    }
    table = tl.perturbation_effects(AnnData(sp.csr_matrix(values), layers=layers))
    assert table["gene"][0] == "7"
    assert table["fdr"][0] < 1e-4
    assert (table["fdr"][1:] > 0.05).mean() > 0.9


def test_controls():
    assert beside(np.arange(100.0))[50] == pytest.approx(50)
    assert beside(np.arange(100.0))[0] == pytest.approx(10.5)
    assert np.isnan(beside(np.ones(1))).all()
    ranking = np.arange(2, 202, dtype=np.int32)
    controls = Controls([ranking, ranking[:150]], 300, seed=0)
    drawn = controls.draw(0, ranking, np.array([100], dtype=np.int32), 30)
    assert len(drawn) == 30
    assert all(abs(genes[0] - 100) <= 51 and genes[0] != 100 for genes in drawn)
    # the cell has none of these; the gene is known from the first cell only
    others = controls.draw(1, ranking[:150], np.array([180], dtype=np.int32), 10)
    assert all(genes[0] >= 152 and genes[0] != 180 for genes in others)


def test_nothing_of_the_user_changes(model, adata):
    cells = adata.copy()
    before = cells.copy()
    tl.perturb(model, cells, indices=[0], window=WINDOW)
    assert np.array_equal(cells.X, before.X)
    assert list(cells.layers) == list(before.layers)
    assert model.module.half_precision


def test_the_result_can_be_written(model, tmp_path):
    import anndata

    found = tl.perturb(model, indices=[0, 1], window=WINDOW, label="beta")
    found.write_h5ad(tmp_path / "perturbed.h5ad")
    again = anndata.read_h5ad(tmp_path / "perturbed.h5ad")
    assert again.uns["perturbation"]["label"] == "beta"
    pd.testing.assert_frame_equal(
        tl.perturbation_effects(again, min_cells=1), tl.perturbation_effects(found, min_cells=1)
    )


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"kind": "knock"}, ValueError, "Unknown kind 'knock'"),
        ({"method": "quick"}, ValueError, "Unknown method 'quick'"),
        ({"n_rescored": -1}, ValueError, "`n_rescored`"),
        ({"window": 0}, ValueError, "`window` must be at least 1"),
        ({"genes": "G1x"}, KeyError, "does not know 'G1x'. Did you mean 'G1'"),
        ({"genes": []}, ValueError, "nothing to perturb"),
        ({"genes": {"none": []}}, ValueError, "'none' has no genes"),
        ({"genes": ["G1", "G1"]}, ValueError, "occurs twice"),
        ({"genes": "G1", "method": "fast"}, ValueError, "method='exact'"),
        ({"genes": "G1", "indices": [0]}, ValueError, "none of the 1 cells expresses 'G1'"),
        ({"label": "gamma"}, ValueError, "does not know 'gamma'; it knows 'alpha', 'beta'"),
        ({"toward": "alpha"}, ValueError, "`groupby=`"),
        ({"toward": "gamma", "groupby": "kind"}, ValueError, "in group 'gamma'; there are 'alpha', 'beta'"),
        ({"toward": "alpha", "groupby": "type"}, KeyError, "'type'"),
        ({"toward": np.ones(3)}, ValueError, "embedding of 6 finite values"),
        ({"indices": []}, ValueError, "`indices` is empty"),
    ],
)
def test_bad_requests_are_named(model, asked, error, words):
    with pytest.raises(error, match=re.escape(words)):
        tl.perturb(model, **asked)


def test_models_that_cannot_be_asked(adata):
    cells = adata.copy()
    GeneMambaModel.setup_anndata(cells)
    model = GeneMambaModel(cells, preset="tiny", pooling=("cls",), n_decoder_genes=20)
    with pytest.raises(RuntimeError, match="train"):
        tl.perturb(model)
    model.is_trained_ = True
    with pytest.raises(ValueError, match="no classifier"):
        tl.perturb(model, label="alpha")
    with pytest.raises(ValueError, match=r"pools \[CLS\]"):
        tl.perturb(model, method="fast", indices=[0])
    assert tl.perturb(model, indices=[0]).uns["perturbation"]["method"] == "exact"


def test_summaries_of_nothing(model):
    perturbed = tl.perturb(model, genes="G33", indices=[0, 1])
    with pytest.raises(ValueError, match="lower `min_cells`"):
        tl.perturbation_effects(perturbed)
    with pytest.raises(KeyError, match="no 'toward'"):
        tl.perturbation_effects(perturbed, effect="toward")
    with pytest.raises(KeyError, match="no column 'type'"):
        tl.perturbation_effects(perturbed, groupby="type", min_cells=1)
    with pytest.raises(KeyError, match="tl.perturb"):
        tl.perturbation_effects(AnnData(np.ones((1, 1))))
