"""Coverage of data by a vocabulary."""

from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scgenemamba.tokens import GeneReport, Vocabulary, check_coverage, map_genes

CD3E, CD19, MARCHF1, TP53 = "ENSG00000198851", "ENSG00000177455", "ENSG00000145416", "ENSG00000141510"
VOCABULARY = Vocabulary([CD3E, CD19, MARCHF1, TP53])


def report_of(names, counts=None, vocabulary=VOCABULARY):
    return GeneReport.of(map_genes(names, vocabulary), vocabulary, np.ones(len(names)) if counts is None else counts)


@pytest.fixture
def report():
    names = ["CD3E", "MARCHF1", "MARCH1", "TP53", "p53", "few", "many", "spike-in"]
    names[-1] = ""
    return report_of(names, [10, 5, 5, 20, 10, 10, 40, 100])


def test_numbers(report):
    assert (report.n_features, report.n_mapped, report.n_vocabulary_genes) == (8, 4, 3)
    assert report.by_rule == {"symbol": 3, "previous symbol": 1, "ambiguous": 1, "unknown": 2, "not a gene": 1}
    assert report.counts_by_rule["not a gene"] == 0.5
    assert sum(report.counts_by_rule.values()) == pytest.approx(1)
    assert report.dropped == ("many", "p53", "few")
    assert report.ambiguous == ("p53",)
    assert report.duplicates == (MARCHF1,)
    assert report.share_of_genes == pytest.approx(4 / 7)
    assert report.share_of_counts == pytest.approx(0.4)
    assert report.share_of_vocabulary == 0.75
    assert report.species == report.vocabulary_species == "human"


def test_there_and_back_through_json(report):
    assert GeneReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_text_names_the_first_genes(report):
    text = str(report)
    assert "4 of 7 genes" in text
    assert "40.0% of the counts" in text
    assert "Not used (3): many, p53, few." in text
    assert text.count("\n") < 8
    assert "v, w, x, y, z and 2 more" in str(report_of([*"vwxyz", "o", "q"]))


@pytest.mark.parametrize("counts", [[1.0], [1.0, -1.0], [1.0, np.nan], [[1.0, 1.0]]])
def test_unsuitable_counts_are_refused(counts):
    with pytest.raises(ValueError, match="2 finite, not negative sums"):
        report_of(["CD3E", "CD19"], counts)


def test_without_counts_genes_are_judged_by_number():
    assert report_of(["CD3E", "x"], [0, 0]).share_of_counts == 0.5
    empty = report_of([])
    assert empty.share_of_counts == 0
    assert "0 of 0 genes" in str(empty)


def test_limits():
    report = report_of(["CD3E", "CD19", "x"], [3, 3, 4])
    assert "60.0% of the counts" in check_coverage(report, stop_below=0.5)
    assert check_coverage(report, stop_below=0.6, warn_below=0.6) is None
    with pytest.raises(ValueError, match="(?s)limit is 70%.*gene_key=.*lower limit.*2 of 3 genes"):
        check_coverage(report, stop_below=0.7)


def test_a_panel_is_mentioned():
    vocabulary = Vocabulary([CD3E, *(f"ENSG{i:011d}" for i in range(20))])
    warning = check_coverage(report_of(["CD3E"], vocabulary=vocabulary), stop_below=0.5)
    assert "panel of 1 genes" in warning
    assert "4.8% of the vocabulary" in warning


def test_another_species_is_named():
    names = [f"ENSMUSG{i:011d}" for i in range(30)]
    with pytest.raises(ValueError, match="look like mouse; the vocabulary is human"):
        check_coverage(report_of(names), stop_below=0.5)


@pytest.fixture
def pbmc(real_data):
    table = pd.read_csv(real_data("genes/genemamba_vocab_medians.tsv.gz"), sep="\t")
    adata = ad.read_h5ad(real_data("pbmc3k.h5ad"))
    counts = np.asarray(adata.X.sum(axis=0)).ravel()
    return adata.var["gene_symbol"].astype(str), counts, Vocabulary(table["ensembl_id"].iloc[2:])


def test_real_data_pass(pbmc):
    report = report_of(*pbmc)
    assert check_coverage(report, stop_below=0.5) is None
    assert report.share_of_counts > 0.96
    assert report.species == "human"
    assert "RP11" in str(report.dropped)


def test_real_nonsense_is_refused(pbmc):
    names, counts, vocabulary = pbmc
    rng = np.random.default_rng(0)
    nonsense = ["".join(rng.permutation(list(name + "qx"))) for name in names]
    with pytest.raises(ValueError, match="Only"):
        check_coverage(report_of(nonsense, counts, vocabulary), stop_below=0.5)


def test_real_names_in_mouse_case_are_refused(pbmc):
    names, counts, vocabulary = pbmc
    with pytest.raises(ValueError, match="look like mouse; the vocabulary is human"):
        check_coverage(report_of([name.capitalize() for name in names], counts, vocabulary), stop_below=0.5)
