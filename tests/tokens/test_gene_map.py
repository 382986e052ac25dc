"""Features to tokens by name."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scgenemamba.tokens import Vocabulary, map_genes
from scgenemamba.tokens import _gene_map as rules
from scgenemamba.tokens._gene_table import gene_table

CD3E, CD19, MARCHF1, TP53 = "ENSG00000198851", "ENSG00000177455", "ENSG00000145416", "ENSG00000141510"
IDS = Vocabulary([CD3E, CD19, MARCHF1, TP53])


def mapped(names, vocabulary=IDS):
    gene_map = map_genes(names, vocabulary)
    genes = [vocabulary.genes[token - 2] if token >= 0 else None for token in gene_map.token_ids]
    return list(zip(genes, gene_map.rules, strict=True))


@pytest.mark.parametrize(
    ("name", "gene", "rule"),
    [
        (CD3E, CD3E, rules.IDENTIFIER),
        (f" {CD3E} ", CD3E, rules.IDENTIFIER),
        (f"{CD3E}.14", CD3E, rules.VERSION_REMOVED),
        ("CD3E", CD3E, rules.SYMBOL),
        ("MARCH1", MARCHF1, rules.PREVIOUS_SYMBOL),
        ("p53", TP53, rules.ALIAS),
        ("Cd3e", None, rules.UNKNOWN),
        ("ENSG00000000003", None, rules.UNKNOWN),
        ("", None, rules.NOT_A_GENE),
        (None, None, rules.NOT_A_GENE),
        (float("nan"), None, rules.NOT_A_GENE),
    ],
)
def test_each_rule(name, gene, rule):
    assert mapped([name]) == [(gene, rule)]


def test_arrays_have_their_types():
    gene_map = map_genes(pd.Index(["CD3E", "x"]), IDS)
    assert gene_map.token_ids.dtype == np.int32
    assert gene_map.names.tolist() == ["CD3E", "x"]
    assert len(gene_map) == 2
    assert len(map_genes([], IDS)) == 0


def test_current_and_previous_symbol_of_one_gene_both_count():
    assert mapped(["MARCHF1", "MARCH1"]) == [(MARCHF1, rules.SYMBOL), (MARCHF1, rules.PREVIOUS_SYMBOL)]


@pytest.mark.parametrize("present", ["TP53", TP53])
def test_an_alias_of_a_gene_that_is_there_itself_is_not_used(present):
    (gene, _), alias = mapped([present, "p53"])
    assert gene == TP53
    assert alias == (None, rules.AMBIGUOUS)


def test_a_current_symbol_is_never_an_old_name_of_another_gene():
    # LSM8 was called NAA38, which is the symbol of another gene now
    lsm8, naa38 = "ENSG00000128534", "ENSG00000183011"
    assert lsm8 in gene_table().by_former["NAA38"]
    assert mapped(["NAA38"], Vocabulary([lsm8, CD3E])) == [(None, rules.UNKNOWN)]
    assert mapped(["NAA38"], Vocabulary([lsm8, naa38])) == [(naa38, rules.SYMBOL)]


def test_a_name_of_several_genes_is_ambiguous_unless_one_is_in_the_vocabulary():
    table = gene_table()
    name, ids = next(
        (name, table.by_alias[name])
        for name in table.by_alias._ids
        if not table.knows(name) and len(table.by_alias[name]) == 2
    )
    assert mapped([name], Vocabulary([*ids, CD3E])) == [(None, rules.AMBIGUOUS)]
    assert mapped([name], Vocabulary([ids[0], CD3E])) == [(ids[0], rules.ALIAS)]


def test_the_approved_id_comes_before_a_retired_one():
    old, new = "ENSG00000161570", "ENSG00000271503"
    assert mapped(["CCL5"], Vocabulary([old, new])) == [(new, rules.SYMBOL)]
    assert mapped(["CCL5"], Vocabulary([old, CD3E])) == [(old, rules.SYMBOL)]
    assert mapped([new], Vocabulary([old, CD3E])) == [(old, rules.ENSEMBL_ID)]
    # where both are there, the second is not added to the first
    assert mapped([new, old], Vocabulary([old, CD3E])) == [(None, rules.AMBIGUOUS), (old, rules.IDENTIFIER)]


def test_a_retired_id_is_read_as_the_current_one_unless_both_are_there():
    # CCL5 in GRCh37, and now
    old, new = "ENSG00000161570", "ENSG00000271503"
    vocabulary = Vocabulary([old, new])
    assert mapped([old], vocabulary) == [(new, rules.RETIRED_ID)]
    assert mapped([f"{old}.4"], vocabulary) == [(new, rules.RETIRED_ID)]
    assert mapped([old, new], vocabulary) == [(old, rules.IDENTIFIER), (new, rules.IDENTIFIER)]
    assert mapped([old, "CCL5"], Vocabulary([old])) == [(old, rules.IDENTIFIER), (old, rules.SYMBOL)]


def test_a_vocabulary_of_symbols_takes_ids_and_other_symbols():
    vocabulary = Vocabulary(["CD3E", "MARCH1", "CD19"])
    assert mapped([CD3E, f"{CD19}.2", "MARCHF1", MARCHF1], vocabulary) == [
        ("CD3E", rules.ENSEMBL_ID),
        ("CD19", rules.ENSEMBL_ID),
        ("MARCH1", rules.SYMBOL),
        (None, rules.AMBIGUOUS),
    ]


def test_a_mixed_vocabulary_prefers_the_id():
    assert mapped(["CD3E", CD3E], Vocabulary(["CD3E", CD3E])) == [("CD3E", rules.IDENTIFIER), (CD3E, rules.IDENTIFIER)]
    assert mapped(["MARCH1"], Vocabulary(["MARCHF1", MARCHF1])) == [(MARCHF1, rules.PREVIOUS_SYMBOL)]


def test_pseudo_autosomal_ids():
    copy_y, copy_x = "ENSGR0000182378", "ENSG00000182378"
    assert mapped([f"{copy_y}.8", f"{copy_x}.8"], Vocabulary([copy_x, copy_y])) == [
        (copy_y, rules.VERSION_REMOVED),
        (copy_x, rules.VERSION_REMOVED),
    ]
    assert mapped([copy_y], Vocabulary([copy_x, CD3E])) == [(copy_x, rules.ENSEMBL_ID)]


@pytest.mark.parametrize(
    "genes", [["ENSMUSG00000032093", "ENSMUSG00000030724"], ["Cd3e", "Cd19"], ["gene0", "gene1"], ["AT1G01010"]]
)
def test_other_species_are_matched_by_identifier_alone(genes):
    found = mapped([genes[0], f"{genes[0]}.3", "CD3E", "MARCH1", CD3E], Vocabulary(genes))
    assert found[0] == (genes[0], rules.IDENTIFIER)
    assert [gene for gene, _ in found[2:]] == [None] * 3


def test_the_table_is_not_read_for_nothing(monkeypatch):
    def refuse():
        raise AssertionError

    monkeypatch.setattr(rules, "gene_table", refuse)
    rules._map_genes.cache_clear()
    map_genes(["CD3E"], Vocabulary(["CD3E"]))
    with pytest.raises(AssertionError):
        map_genes(["CD3E"], IDS)


@pytest.fixture
def published(real_data):
    table = pd.read_csv(real_data("genes/genemamba_vocab_medians.tsv.gz"), sep="\t")
    return Vocabulary(table["ensembl_id"].iloc[2:])


@pytest.fixture
def pbmc(real_data):
    """Symbols, ids and sums of counts."""
    adata = ad.read_h5ad(real_data("pbmc3k.h5ad"))
    counts = np.asarray(adata.X.sum(axis=0), dtype=np.float64).ravel()
    return adata.var["gene_symbol"].astype(str), adata.var["ensembl_id"].astype(str), counts


def test_real_data_map_alike_in_every_form(published, pbmc):
    symbols, ids, counts = pbmc
    by_id = map_genes(ids, published)
    in_vocabulary = np.isin(by_id.rules.astype(str), (rules.IDENTIFIER, rules.RETIRED_ID))
    half = np.where(np.random.default_rng(0).random(len(ids)) < 0.5, symbols, ids)
    unused = {}
    for form, names in {"symbol": symbols, "version": ids + ".7", "half": half}.items():
        gene_map = map_genes(names, published)
        used = gene_map.token_ids >= 0
        unused[form] = int((in_vocabulary & ~used).sum())
        assert counts[in_vocabulary & used].sum() >= 0.98 * counts[in_vocabulary].sum()
        differs = used & in_vocabulary & (gene_map.token_ids != by_id.token_ids)
        if form == "version":
            assert not differs.any()
            assert np.array_equal(gene_map.token_ids, by_id.token_ids)
        # the data's reference is of 2013: symbols since given to another gene, and ids retired without a successor
        assert differs.sum() <= 180
        assert counts[differs].sum() < 0.0005 * counts.sum()
    # of 20,331 genes of the vocabulary: ambiguous or unknown by name
    assert unused == {"symbol": 338, "version": 0, "half": 170}


def test_real_symbols_take_ids(pbmc):
    symbols, ids, counts = pbmc
    vocabulary = Vocabulary.from_names(symbols)
    gene_map = map_genes(ids, vocabulary)
    same = gene_map.token_ids == vocabulary.token_ids(symbols)
    assert counts[same].sum() > 0.998 * counts.sum()
