"""Known pairs of genes against others that are like them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from scgenemamba.metrics import matched_gene_pairs, score_gene_pairs

GENES = [f"g{i:03d}" for i in range(300)]


@pytest.fixture
def world():
    """Modules of five genes; abundant genes have more partners, so abundance alone tells known pairs from random ones."""
    generator = np.random.default_rng(0)
    abundance = pd.Series(np.exp(generator.normal(size=300)), index=GENES)
    module = np.arange(300) // 5
    popular = abundance.rank(ascending=False).to_numpy() <= 150
    known = [
        (GENES[a], GENES[b])
        for a in range(300)
        for b in range(a + 1, 300)
        if module[a] == module[b] and popular[a] and popular[b]
    ]
    return abundance, module, known


def table(values):
    return pd.DataFrame(values, index=GENES, columns=GENES)


def test_neither_abundance_nor_partners_tell_matched_pairs(world):
    abundance, _, known = world
    pairs = matched_gene_pairs(known, abundance)
    assert pairs["label"].sum() * 2 == len(pairs) > 200
    as_sets = {frozenset(pair) for pair in known}
    for row in pairs.itertuples():
        assert (frozenset((row.gene_1, row.gene_2)) in as_sets) == (row.label == 1)
        assert row.gene_1 != row.gene_2
    degree = pd.Series([gene for pair in known for gene in pair]).value_counts()
    for values in (abundance, degree):
        sums = values[pairs["gene_1"]].to_numpy() + values[pairs["gene_2"]].to_numpy()
        assert 0.42 < roc_auc_score(pairs["label"], sums) < 0.58


def test_the_same_seed_gives_the_same_pairs(world):
    abundance, _, known = world
    one, other = (matched_gene_pairs(order, abundance, random_state=3) for order in (known, known[::-1]))
    pd.testing.assert_frame_equal(one, other)
    assert not one.equals(matched_gene_pairs(known, abundance, random_state=4))


def test_scores_of_an_oracle_of_noise_and_of_abundance(world):
    abundance, module, known = world
    pairs = matched_gene_pairs(known, abundance)
    noise = np.random.default_rng(1).normal(size=(300, 300))
    found = score_gene_pairs(
        pairs,
        {
            "oracle": table(module[:, None] == module),
            "noise": table(noise + noise.T),
            "abundance": table(np.add.outer(abundance.to_numpy(), abundance.to_numpy())),
        },
        control="noise",
    )
    assert found.loc["oracle", ["auroc", "auprc"]].tolist() == [1, 1]
    for name in ("noise", "abundance"):
        assert found.loc[name, "auroc_low"] < 0.5 < found.loc[name, "auroc_high"]
    assert found.loc["oracle", "auroc_gain_low"] > 0.3
    assert found.loc["noise", ["auroc_gain", "auroc_gain_low", "auroc_gain_high"]].tolist() == [0, 0, 0]
    assert (found["n_pairs"] == len(pairs)).all()


def test_only_genes_that_all_know_are_scored(world):
    abundance, module, known = world
    pairs = matched_gene_pairs(known, abundance)
    all_genes = table(module[:, None] == module)
    # in another order, and fewer
    few = all_genes.iloc[::-1, ::-1].iloc[:200, :200]
    found = score_gene_pairs(pairs, {"all": all_genes, "few": few}, n_resamples=5)
    assert found.loc["all"].equals(found.loc["few"])
    assert found.loc["all", "n_pairs"] == (pairs["gene_1"].isin(few.index) & pairs["gene_2"].isin(few.index)).sum()


def test_bad_input_is_named(world):
    abundance, module, known = world
    with pytest.raises(ValueError, match="None of the 1 known pairs"):
        matched_gene_pairs([("g000", "elsewhere")], abundance)
    pairs = matched_gene_pairs(known, abundance)
    similarity = {"all": table(module[:, None] == module)}
    with pytest.raises(KeyError, match="no column 'label'"):
        score_gene_pairs(pairs.drop(columns="label"), similarity)
    with pytest.raises(KeyError, match="no similarity 'random'"):
        score_gene_pairs(pairs, similarity, control="random")
    with pytest.raises(ValueError, match="not of both labels"):
        score_gene_pairs(pairs[pairs["label"] == 1], similarity)
    with pytest.raises(ValueError, match="no similarities"):
        score_gene_pairs(pairs, {})
