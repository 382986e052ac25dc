"""The paper's comparison of embeddings, beside what chance gives."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scgenemamba.metrics import adjacency_jaccard


def embedding(n_genes=80, d=8, seed=0):
    values = np.random.default_rng(seed).normal(size=(n_genes, d))
    return pd.DataFrame(values, index=[f"G{i}" for i in range(n_genes)])


def by_hand(one, other):
    """As the paper says it, with square tables."""
    graphs = []
    for values in (one, other):
        similarity = 1 - np.linalg.norm(values[:, None] - values, axis=2)
        off = ~np.eye(len(values), dtype=bool)
        graphs.append((similarity > similarity[off].mean()) & off)
    return (graphs[0] & graphs[1]).sum() / (graphs[0] | graphs[1]).sum()


def test_index_of_the_genes_that_all_share():
    one, other = embedding(seed=0), embedding(d=3, seed=1)
    # in another order, and with other genes
    shuffled = pd.concat([other.iloc[::-1].iloc[:60], embedding(5, 3).set_axis([*"abcde"])])
    found = adjacency_jaccard({"one": one, "other": shuffled})
    shared = one.index.intersection(shuffled.index)
    assert found.loc[("one", "other"), "n_genes"] == len(shared) == 60
    expected = by_hand(one.loc[shared].to_numpy(), other.loc[shared].to_numpy())
    assert found.loc[("one", "other"), "jaccard"] == pytest.approx(expected)
    few = ["G79", "G70", "G60", "G50", "G1"]
    asked = adjacency_jaccard({"one": one, "other": shuffled}, few).loc[("one", "other")]
    assert asked["n_genes"] == 4
    assert asked["jaccard"] == pytest.approx(by_hand(one.loc[few[:4]].to_numpy(), other.loc[few[:4]].to_numpy()))


def test_unrelated_embeddings_are_at_what_chance_gives_and_the_same_at_one():
    one = embedding(300, 32)
    # turned, moved and scaled, it is the same
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(32, 32)))[0]
    same = pd.DataFrame(3 * one.to_numpy() @ turn + 5, index=one.index)
    shuffled = pd.DataFrame(one.to_numpy()[np.random.default_rng(4).permutation(300)], index=one.index)
    found = adjacency_jaccard({"one": one, "same": same, "shuffled": shuffled})
    assert [*found.index] == [("one", "same"), ("one", "shuffled"), ("same", "shuffled")]
    assert found.loc[("one", "same"), "jaccard"] == pytest.approx(1, abs=1e-3)
    chance = found.loc[("one", "shuffled")]
    assert chance["jaccard"] == pytest.approx(chance["expected"], abs=0.03)
    assert 0.25 < chance["expected"] < 0.45


def test_bad_input_is_named():
    one = embedding()
    with pytest.raises(ValueError, match=r"At least two embeddings .* \['one'\]"):
        adjacency_jaccard({"one": one})
    with pytest.raises(ValueError, match="share 0 of the genes .*'other' 80.*identifier"):
        adjacency_jaccard({"one": one, "other": one.add_prefix("ENSG", axis=0)})
    with pytest.raises(ValueError, match="share 1 of the genes"):
        adjacency_jaccard({"one": one, "other": one}, ["G1", "elsewhere"])
    with pytest.raises(ValueError, match="'other' has gene 'G0' more than once"):
        adjacency_jaccard({"one": one, "other": pd.concat([one, one.iloc[:1]])})
    broken = one.copy()
    broken.iloc[7, 0] = np.nan
    with pytest.raises(ValueError, match="'other' of gene 'G7' is not finite"):
        adjacency_jaccard({"one": one, "other": broken})
