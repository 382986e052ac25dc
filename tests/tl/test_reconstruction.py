"""Hidden genes of held-out cells: what is guessed, what is scored, and that nothing leaks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from scgenemamba import tl
from scgenemamba.tl._reconstruction._hidden_genes import (
    HiddenCell,
    draw_hidden,
    hidden_cells,
    model_logits,
    most_likely,
    score,
)
from scgenemamba.tl._reconstruction._nearest_cells import NearestCells
from scgenemamba.train import RankBaselines
from tests.conftest import make_adata

METHODS = ["model", "unigram", "mean_rank", "nearest_cells"]
SCORES = ["loss", "top_1", "top_10", "top_50", "spearman", "levenshtein", "bleu", "overlap"]


def train(adata):
    import scvi

    from scgenemamba import GeneMambaModel

    scvi.settings.seed = 0
    GeneMambaModel.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    sizes = {"n_layers": 1, "d_model": 32, "max_tokens": 24, "n_latent": 8, "d_state": 16, "n_decoder_genes": 0}
    model = GeneMambaModel(adata, **sizes)
    model.train(max_epochs=1, batch_size=32, train_size=0.8, enable_progress_bar=False)
    return model


@pytest.fixture(scope="module")
def model():
    return train(make_adata())


@pytest.fixture(params=[False, True], ids=["in place", "last"])
def either(model, request, monkeypatch):
    """The model, told to read hidden genes in their places or behind the others."""
    monkeypatch.setattr(model.module.objectives["masked_genes"], "hidden_last", request.param)
    return model


@pytest.fixture(scope="module")
def table(model):
    return tl.rank_reconstruction(model)


def test_a_row_for_each_held_out_cell_and_method(model, table):
    cells = model.adata.obs_names[np.sort(model.validation_indices)]
    assert list(table["cell"]) == [cell for cell in cells for _ in METHODS]
    assert list(table["method"]) == METHODS * len(cells)
    assert list(table.columns) == ["cell", "method", *SCORES, "n_hidden", "n_shared", "n_only_true", "n_only_guessed"]
    # 15 % of the genes that are read
    assert set(table["n_hidden"]) <= {1, 2, 3, 4} and table["n_hidden"].max() == 4
    assert (table["n_shared"] + table["n_only_true"] == table["n_hidden"]).all()
    assert (table["overlap"] * table["n_hidden"] - table["n_shared"]).abs().max() < 1e-9
    assert table[["top_1", "top_10", "top_50", "levenshtein", "bleu"]].stack().between(0, 1).all()
    assert (table.loc[table["method"] == "unigram", "spearman"].dropna() == 0).all()


def test_batches_and_threads_change_nothing(model, table):
    n_threads = torch.get_num_threads()
    for batch_size, threads in ((1, 1), (7, 2)):
        torch.set_num_threads(threads)
        again = tl.rank_reconstruction(model, batch_size=batch_size)
        torch.set_num_threads(n_threads)
        np.testing.assert_allclose(again[SCORES], table[SCORES], atol=1e-5)


def test_a_cell_is_scored_the_same_among_others(model, table):
    rows = np.sort(model.validation_indices)[[5, 2]]
    part = tl.rank_reconstruction(model, indices=rows)
    assert list(part["cell"].unique()) == list(model.adata.obs_names[rows])
    expected = table.set_index(["cell", "method"]).loc[list(zip(part["cell"], part["method"], strict=True))]
    np.testing.assert_allclose(part[SCORES], expected[SCORES], atol=1e-5)


def batch_of(model, rows):
    (batch,) = model._make_data_loader(model.adata, indices=rows, batch_size=len(rows))
    return model.module.truncate(batch)


@torch.inference_mode()
def test_no_guess_depends_on_what_is_hidden(either):
    batch = batch_of(either, either.validation_indices[:5])
    hidden = draw_hidden(batch, 0.3, 0)
    other = {**batch, "tokens": torch.where(hidden, batch["tokens"] * 0 + 2, batch["tokens"])}
    for one, two in zip(
        model_logits(either.module, batch, hidden), model_logits(either.module, other, hidden), strict=True
    ):
        assert torch.equal(one, two)
    # that they do depend on what is shown is what makes this a test
    turned = {**batch, "tokens": torch.where(hidden, batch["tokens"], batch["tokens"] * 0 + 2)}
    first, second = (next(model_logits(either.module, b, hidden)) for b in (batch, turned))
    assert not torch.allclose(first, second)


@torch.inference_mode()
def test_logits_stand_at_their_places(either):
    batch = batch_of(either, either.validation_indices[:3])
    hidden = draw_hidden(batch, 0.3, 0)
    bounds = batch["cu_seqlens"].tolist()
    for i, found in enumerate(model_logits(either.module, batch, hidden)):
        inside = slice(bounds[i], bounds[i + 1])
        tokens, away = batch["tokens"][inside], hidden[inside]
        if either.module.objectives["masked_genes"].hidden_last:
            tokens, away = torch.cat([tokens[~away], tokens[away]]), away.sort().values
        states = either.module.network.encoder(tokens, torch.tensor([0, len(tokens)]), away)
        torch.testing.assert_close(
            found, either.module.objectives["masked_genes"].head(states[away]), atol=1e-5, rtol=0
        )


def test_masks_are_a_share_and_belong_to_the_cell():
    lengths = torch.tensor([40, 1, 0, 10])
    batch = {"tokens": torch.arange(51), "cu_seqlens": torch.cat([torch.zeros(1).long(), lengths.cumsum(0)])}
    hidden = draw_hidden({**batch, "cell": torch.arange(4)}, 0.2, 0)
    assert [int(part.sum()) for part in hidden.split(lengths.tolist())] == [8, 1, 0, 2]
    alone = {"tokens": torch.arange(10), "cu_seqlens": torch.tensor([0, 10]), "cell": torch.tensor([3])}
    assert torch.equal(draw_hidden(alone, 0.2, 0), hidden[41:])
    assert not torch.equal(draw_hidden(alone, 0.2, 1), hidden[41:])


def a_cell():
    tokens = np.array([9, 4, 2, 7, 5, 11, 3, 8])
    return HiddenCell(tokens, np.array([0, 1, 0, 1, 1, 0, 1, 0], dtype=bool))


def test_an_oracle_gets_the_best_scores():
    cell, is_gene = a_cell(), np.arange(14) >= 2
    sure = torch.full((4, 14), -50.0)
    sure[torch.arange(4), torch.from_numpy(cell.target)] = 0.0
    # shown genes and padding are no candidates, however likely
    sure[:, torch.tensor([0, 1, *cell.shown])] = 100.0
    found = score(sure, cell, is_gene, (1, 2))
    best = {"loss": 0, "top_1": 1, "top_2": 1, "spearman": 1, "levenshtein": 0, "bleu": 1, "n_shared": 4}
    assert {name: found[name] for name in best} == pytest.approx(best, abs=1e-9)
    backwards = score(sure.flip(0), cell, is_gene, (1,))
    assert backwards["spearman"] == pytest.approx(-1)
    assert backwards["top_1"] == 0 and backwards["n_shared"] == 4 and backwards["levenshtein"] == 1


def test_a_guess_without_knowledge_is_not_rewarded():
    found = score(torch.zeros(4, 14), a_cell(), np.arange(14) >= 2, (1, 5))
    # 8 candidates, all equal: the gene is in the middle of them
    assert found["loss"] == pytest.approx(np.log(8))
    assert (found["top_1"], found["top_5"], found["spearman"]) == (0, 1, 0)


def test_each_gene_is_put_at_one_place():
    values = torch.tensor([[5.0, 4.0, 0.0], [5.0, 1.0, 0.0]])
    # the second place loses more without the first gene
    assert most_likely(values).tolist() == [1, 0]
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.normal(size=(4, 7)))
    from itertools import permutations

    best = max(permutations(range(7), 4), key=lambda genes: sum(values[i, g] for i, g in enumerate(genes)))
    assert most_likely(values).tolist() == list(best)


def reference_batch(cells):
    bounds = torch.tensor([0, *np.cumsum([len(c) for c in cells])])
    return {"tokens": torch.from_numpy(np.concatenate(cells)).int(), "cu_seqlens": bounds}


def test_nearest_cells_say_what_they_express_and_where():
    first = [np.array([2, 3, 4, 5, 10]), np.array([2, 3, 4, 5, 11])]
    second = [np.array([6, 7, 8, 9, 12]) for _ in range(20)]
    cells = [*second, *first]
    baselines = RankBaselines(14, 24).fit([reference_batch(cells)])
    guess = NearestCells(cells, baselines, 14, 2)
    shown, place = np.array([2, 3, 4]), (np.arange(3) + 0.5) / 5
    assert guess.nearest(shown, place).tolist() == [20, 21]
    at = torch.tensor([0.7, 0.9], dtype=torch.float64)
    found = guess.log_scores(shown, place, at)
    mean_rank = baselines.log_scores(at)["mean_rank"]
    # gene 5 stands fourth in both; 10 stands last in one of them, as 12 does in 20 other cells
    more = found - mean_rank
    assert more[0, 5] > more[0, 10] > more[0, 9] and more[1, 10] > more[1, 12]
    assert found[0, 5] > found[1, 5]
    # without any cell near, what all cells say is left
    far = baselines.log_scores_near(at, torch.zeros(3, 14, dtype=torch.float64), 0)
    torch.testing.assert_close(far - far[:, :1], mean_rank - mean_rank[:, :1])


def test_guesses_without_a_model_agree_with_the_losses_of_pretraining(model, table):
    batches = [model.module.truncate(b) for b in model._make_data_loader(model.adata, indices=model.train_indices)]
    baselines = RankBaselines(model.module.config.n_tokens, 24).fit(batches)
    for row in np.sort(model.validation_indices)[:3]:
        batch = batch_of(model, [row])
        expected = baselines.losses([batch], lambda b: draw_hidden(b, 0.15, 0))
        own = table[table["cell"] == model.adata.obs_names[row]].set_index("method")["loss"]
        # those count tokens that are no genes as well, with half a cell each
        assert own[["unigram", "mean_rank"]].to_numpy() == pytest.approx([*expected.values()], abs=0.05)


def test_groups_drawn_cells_and_given_reference(model):
    adata = model.adata.copy()
    adata.obs["part"] = pd.Categorical([None] * adata.n_obs, categories=["a"])
    chosen = np.sort(model.validation_indices)[:6]
    adata.obs.iloc[chosen, adata.obs.columns.get_loc("part")] = "a"
    before = adata.copy()
    reference = model.adata[model.train_indices].copy()
    found = tl.rank_reconstruction(model, adata, groupby="part", reference=reference, n_cells=4, top_k=(3,))
    assert found["cell"].nunique() == 4 and set(found["cell"]) <= set(adata.obs_names[chosen])
    assert set(found["part"]) == {"a"} and "top_3" in found
    own = [column for column in before.obs if not column.startswith("_scvi")]
    pd.testing.assert_frame_equal(adata.obs[own], before.obs[own])
    assert set(adata.obsm) == set(before.obsm)


def test_cells_of_the_reference_are_refused(model):
    with pytest.raises(ValueError, match="is among the reference cells"):
        tl.rank_reconstruction(model, model.adata)
    # those of a copy are known by name and genes
    row = model.validation_indices[0]
    with pytest.raises(ValueError, match=f"Cell {model.adata.obs_names[row]!r} is among"):
        tl.rank_reconstruction(model, indices=[row], reference=model.adata.copy())


def test_bad_arguments_are_named(model):
    adata = model.adata[model.validation_indices].copy()
    adata.obs["method"] = "10x"
    with pytest.raises(ValueError, match="a column 'method' of its own"):
        tl.rank_reconstruction(model, adata, groupby="method")
    for options, error, text in (
        ({"mask_rate": 0.0}, ValueError, "mask_rate"),
        ({"top_k": ()}, ValueError, "top_k"),
        ({"n_cells": 0}, ValueError, "n_cells"),
        ({"n_neighbors": 1000}, ValueError, "only 96 reference cells"),
        ({"groupby": "type"}, KeyError, "no column 'type'"),
        ({"indices": []}, ValueError, "no cells to score"),
        ({"indices": [5000]}, IndexError, "no cell 5000"),
        ({"indices": [True]}, IndexError, "each of 120 cells"),
        ({"reference": model.adata[:0]}, ValueError, "`reference` has no cells"),
    ):
        with pytest.raises(error, match=text):
            tl.rank_reconstruction(model, **options)


def test_models_without_head_or_held_out_cells_are_named(model, monkeypatch):
    from scgenemamba import GeneMambaModel

    other = GeneMambaModel(model.adata, n_layers=1, d_model=32, n_decoder_genes=0, language="next_token")
    for function in (tl.rank_reconstruction, tl.leaky_rank_reconstruction):
        with pytest.raises(RuntimeError, match="untrained"):
            function(other)
    other.is_trained_ = True
    with monkeypatch.context() as patch:
        patch.setattr(model, "validation_indices_", np.array([]))
        patch.setattr(model, "test_indices_", np.array([]))
        with pytest.raises(ValueError, match="no held-out cells"):
            tl.rank_reconstruction(model)
        patch.setattr(model, "train_indices_", np.array([]))
        with pytest.raises(ValueError, match="no training cells at hand"):
            tl.rank_reconstruction(model)
    with pytest.raises(ValueError, match="language='masked_genes'"):
        tl.rank_reconstruction(other)
    with pytest.raises(ValueError, match="from both directions"):
        tl.leaky_rank_reconstruction(other)


def test_the_score_that_leaks_rewards_copying(model):
    found = tl.leaky_rank_reconstruction(model, n_cells=10).set_index("method")
    assert list(found.index) == ["model", "copy", "copy_next"]
    assert (found.loc["copy", ["l_dist", "bleu", "spearman"]].astype(float) - [0, 1, 1]).abs().max() < 1e-12
    # a perfect solution of the published loss: one deletion, and the padding at the end of each cell
    assert found.loc["copy_next", "l_dist"] == 11
    assert found.loc["copy_next", "bleu"] < 1
    assert (found["n_only_true"] + found["n_shared"] == found.loc["copy", "n_shared"]).all()
    again = tl.leaky_rank_reconstruction(model, n_cells=10, batch_size=3).set_index("method")
    pd.testing.assert_frame_equal(found, again, atol=1e-5)
    with pytest.raises(ValueError, match="no cells to score"):
        tl.leaky_rank_reconstruction(model, indices=[])


def test_hidden_cells_are_those_of_the_batch(model):
    batch = batch_of(model, [3, 1])
    cells = hidden_cells(batch, draw_hidden(batch, 0.15, 0))
    assert np.array_equal(np.concatenate([cell.tokens for cell in cells]), batch["tokens"].numpy())
