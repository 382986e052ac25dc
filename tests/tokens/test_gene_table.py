"""The table of human genes."""

from __future__ import annotations

import time

import pytest

from scgenemamba.tokens._gene_table import NameIndex, gene_table


@pytest.fixture(scope="module")
def table():
    return gene_table()


def test_a_gene_is_found_by_each_of_its_names(table):
    assert table.by_symbol["CD3E"] == ("ENSG00000198851",)
    assert table.symbols["ENSG00000198851"] == "CD3E"
    assert table.by_former["MARCH1"] == ("ENSG00000145416",)
    assert table.symbols["ENSG00000145416"] == "MARCHF1"
    assert "ENSG00000141510" in table.by_alias["p53"]
    assert "ENSG00000145416" in table.approved


def test_old_clone_names_and_retired_ids_are_known(table):
    assert table.by_former["RP11-34P13.7"] == ("ENSG00000238009",)
    # GRCh37 and GRCh38 id of CCL5, the approved one first
    assert table.by_symbol["CCL5"] == ("ENSG00000271503", "ENSG00000161570")
    assert "ENSG00000161570" not in table.approved


@pytest.mark.parametrize("name", ["Y_RNA", "RF00019", "snoU13", ""])
def test_names_of_many_genes_name_none(table, name):
    assert not table.knows(name)
    assert table.by_symbol[name] == ()


def test_it_is_read_once_and_quickly():
    gene_table.cache_clear()
    start = time.process_time()
    first = gene_table()
    assert time.process_time() - start < 2
    assert gene_table() is first


def test_the_index_keeps_ids_in_order():
    index = NameIndex()
    for gene_id in ("b", "a"):
        index.add("name", gene_id)
    assert index["name"] == ("b", "a")
    assert "name" in index
    assert "other" not in index
