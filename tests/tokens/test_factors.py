"""Reading factors."""

from __future__ import annotations

import collections
import importlib.util
import json
import pickle

import numpy as np
import pandas as pd
import pytest

from scgenemamba.tokens import Vocabulary, read_factors

CD3E, CD19, MARCHF1 = "ENSG00000198851", "ENSG00000177455", "ENSG00000145416"
VOCABULARY = Vocabulary([CD3E, CD19, MARCHF1])
FACTORS = {CD19: 2.0, "MARCH1": 3.5, "unknown": 9.0}
EXPECTED = [np.nan, 2.0, 3.5]


def check(source, expected=EXPECTED):
    factors = read_factors(source, VOCABULARY)
    assert factors.dtype == np.float64
    np.testing.assert_array_equal(factors, expected)


@pytest.mark.parametrize("ending", [".tsv", ".csv", ".tsv.gz", ".csv.gz"])
@pytest.mark.parametrize("columns", [("gene", "factor"), ("Ensembl_ID", "nonzero_median"), ("name", "x")])
def test_tables(tmp_path, ending, columns):
    table = pd.DataFrame({columns[0]: list(FACTORS), columns[1]: list(FACTORS.values()), "note": "text"})
    path = tmp_path / f"factors{ending}"
    table.to_csv(path, sep="\t" if ".tsv" in ending else ",", index=False)
    check(path)
    check(str(path))


def test_mapping_series_and_json(tmp_path):
    path = tmp_path / "factors.json"
    path.write_text(json.dumps(FACTORS))
    for source in (FACTORS, pd.Series(FACTORS), path):
        check(source)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("number", [float, np.float64, np.float32])
def test_pickled_dictionaries(tmp_path, protocol, number):
    path = tmp_path / "gene_median_dictionary.pkl"
    path.write_bytes(pickle.dumps({gene: number(value) for gene, value in FACTORS.items()}, protocol))
    check(path)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_that_run_something_are_refused(tmp_path, protocol):
    path, written = tmp_path / "factors.pkl", tmp_path / "written"
    path.write_bytes(pickle.dumps({CD3E: Malicious(written)}, protocol))
    with pytest.raises(ValueError, match=r"not safe to read \(it asks for \w+.open"):
        read_factors(path, VOCABULARY)
    assert not written.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"\x82\x01.",
        b"Pid\n.",
        b"not a pickle",
        b"",
        pickle.dumps(collections.OrderedDict(a=1)),
        pickle.dumps(np.array([{}], dtype=object)),
        pickle.dumps(np.zeros(1, dtype=[("a", "O")])),
    ],
)
def test_other_pickles_are_refused(tmp_path, data):
    path = tmp_path / "factors.pickle"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="not a pickle of plain numbers"):
        read_factors(path, VOCABULARY)


def test_a_pickle_cannot_change_numpy(tmp_path):
    # builds the state of a dtype that is not a copy
    path = tmp_path / "factors.pkl"
    path.write_bytes(b"cnumpy\ndtype\n(S'f8'\nI00\nI00\ntR(I3\nS'>'\nNNNI-1\nI-1\nI0\ntb.")
    with pytest.raises(ValueError, match="does not hold a mapping"):
        read_factors(path, VOCABULARY)
    assert np.dtype("f8").byteorder == "="


@pytest.mark.parametrize("content", [[1, 2], {"1": "a"}, 3])
def test_content_that_is_no_mapping_to_numbers(tmp_path, content):
    path = tmp_path / "factors.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="does not hold a mapping|not numbers"):
        read_factors(path, VOCABULARY)


def test_parquet(tmp_path):
    path = tmp_path / "factors.parquet"
    if importlib.util.find_spec("pyarrow") is None and importlib.util.find_spec("fastparquet") is None:
        path.write_bytes(b"PAR1")
        with pytest.raises(ImportError, match="pip install pyarrow"):
            read_factors(path, VOCABULARY)
    else:
        pd.Series(FACTORS, name="factor").rename_axis("gene").to_frame().to_parquet(path)
        check(path)


def test_columns_that_cannot_be_told_are_named(tmp_path):
    path = tmp_path / "factors.tsv"
    pd.DataFrame({"gene": [CD3E], "a": [1.0], "b": [2.0]}).to_csv(path, sep="\t", index=False)
    with pytest.raises(ValueError, match="gene, a, b"):
        read_factors(path, VOCABULARY)
    path.write_text(f"{CD3E}\t1.5\n{CD19}\t2.5\n")
    with pytest.raises(ValueError, match="first line"):
        read_factors(path, VOCABULARY)


def test_values_that_are_no_numbers_are_named():
    with pytest.raises(ValueError, match=rf"1 factors are not numbers: {CD19}: 'high' \(row 2\)"):
        read_factors({CD3E: 1.0, CD19: "high"}, VOCABULARY)


def test_unusable_values_are_missing():
    check({CD3E: 0.0, CD19: 2.0, MARCHF1: np.inf}, [np.nan, 2.0, np.nan])
    with pytest.raises(ValueError, match="None of the 3 factors is a finite, positive number"):
        read_factors({CD3E: 0.0, CD19: -2.0, MARCHF1: None}, VOCABULARY)


def test_genes_elsewhere():
    with pytest.raises(ValueError, match="None of the 1 genes.*ENSMUSG.*is in the vocabulary.*ENSG"):
        read_factors({"ENSMUSG00000000001": 1.0}, VOCABULARY)


def test_repeated_genes():
    check(pd.Series([2.0, 2.0, 3.5], index=[CD19, CD19, MARCHF1]))
    with pytest.raises(ValueError, match=f"several different factors, such as {CD19}"):
        read_factors(pd.Series([2.0, 2.5], index=[CD19, CD19]), VOCABULARY)
    # the stronger rule, whatever the order
    check({CD19: 2.0, "MARCH1": 7.0, MARCHF1: 3.5})
    check({CD19: 2.0, MARCHF1: 3.5, "MARCH1": 7.0})


@pytest.mark.parametrize("name", ["factors.txt", "factors"])
def test_other_files(tmp_path, name):
    (tmp_path / name).write_text("x")
    with pytest.raises(ValueError, match="Cannot tell what"):
        read_factors(tmp_path / name, VOCABULARY)


def test_the_published_medians(real_data):
    path = real_data("genes/genemamba_vocab_medians.tsv.gz")
    table = pd.read_csv(path, sep="\t").iloc[2:]
    factors = read_factors(path, Vocabulary(table["ensembl_id"]))
    np.testing.assert_array_equal(factors, table["nonzero_median"].astype(np.float64))
