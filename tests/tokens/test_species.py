"""Species of gene names."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scgenemamba.tokens import guess_species
from scgenemamba.tokens._gene_table import gene_table


@pytest.fixture(scope="module")
def symbols():
    table = gene_table()
    approved = sorted(table.symbols[gene_id] for gene_id in table.approved)
    return np.random.default_rng(0).choice(approved, 300, replace=False)


@pytest.mark.parametrize(
    ("prefix", "species"),
    [
        ("ENSG", "human"),
        ("ENSGR", "human"),
        ("ENSMUSG", "mouse"),
        ("ENSRNOG", "rat"),
        ("ENSDARG", "zebrafish"),
        ("ENSMMUG", "rhesus macaque"),
        ("ENSSSCG", "pig"),
        ("ENSGALG", "chicken"),
        ("ENSABCG", "unknown"),
    ],
)
def test_ensembl_ids(prefix, species):
    names = [f"{prefix}{i:011d}.1" for i in range(200)] + ["CD3E", None, ""]
    assert guess_species(names) == species


@pytest.mark.parametrize(
    ("name", "species"),
    [("FBgn0000001", "fruit fly"), ("WBGene00000001", "nematode"), ("AT1G01010", "thale cress"), ("YAL001C", "yeast")],
)
def test_other_ids(name, species):
    assert guess_species([name] * 3) == species


def test_symbols(symbols):
    assert guess_species(symbols) == "human"
    assert guess_species([name.capitalize() for name in symbols]) == "mouse"
    assert guess_species([name.lower() for name in symbols]) == "zebrafish"


def test_symbols_that_only_one_species_has(symbols):
    rodents = [name.capitalize() for name in symbols]
    assert guess_species([*rodents, "RGD1559909", "RGD1560010"]) == "rat"
    assert guess_species(["Cd3e", "Gm12345", "1700007K13Rik", "mt-Nd1", "Xkr4"]) == "mouse"


def test_a_few_genes_of_another_species_do_not_matter(symbols):
    assert guess_species([*symbols, *(f"ENSMUSG{i:011d}" for i in range(50))]) == "human"


@pytest.mark.parametrize("names", [[], [None, ""], [f"gene{i}" for i in range(300)], ["x", "y"]])
def test_unknown(names):
    assert guess_species(names) == "unknown"


def test_the_published_vocabulary_is_human(real_data):
    table = pd.read_csv(real_data("genes/genemamba_vocab_medians.tsv.gz"), sep="\t")
    assert guess_species(table["ensembl_id"]) == "human"
    assert guess_species(table["gene_symbol"].dropna()) == "human"
