"""One look at files: genes, factors, scales, and what is wrong."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from scgenemamba.tokens import Vocabulary, nonzero_medians
from scgenemamba.train import survey

pytest.importorskip("boost_histogram")


def write(path, counts, genes, column=None, logged=False):
    adata = ad.AnnData(sp.csr_matrix(np.asarray(counts, dtype=np.float32)))
    adata.obs_names = [f"cell{i}" for i in range(adata.n_obs)]
    adata.var_names = genes
    if column is not None:
        adata.var["name"] = column
    if logged:
        adata.uns["log1p"] = {"base": None}
    adata.write_h5ad(path)
    return path


@pytest.fixture
def files(tmp_path):
    generator = np.random.default_rng(0)
    first = generator.poisson(2.0, size=(200, 6))
    second = generator.poisson(1.0, size=(100, 5))
    second[:, 0] += 1
    second[:, 4] = 0
    logged = np.log1p(second / second.sum(1, keepdims=True) * 1e4)
    genes = [f"GENE{i}" for i in range(9)]
    return [
        write(tmp_path / "a.h5ad", first, genes[:6]),
        write(tmp_path / "b.h5ad", logged, [genes[7], genes[2], genes[0], genes[6], genes[8]], logged=True),
    ], (first, second)


def test_genes_of_all_files_and_their_medians(files):
    paths, (first, second) = files
    found = survey(paths)
    # GENE8 is in no cell
    assert found.vocabulary.genes.tolist() == [f"GENE{i}" for i in range(8)]
    assert found.n_cells == 300
    assert [source.scale.kind for source in found.sources] == ["counts", "log"]
    assert found.sources[1].token_ids.tolist() == [9, 4, 2, 8, -1]
    assert [source.first_cell for source in found.sources] == [0, 200]
    whole = np.zeros((300, 8))
    whole[:200, :6] = first
    whole[200:, [7, 2, 0, 6]] = second[:, :4]
    exact = nonzero_medians(sp.csr_matrix(whole))
    np.testing.assert_allclose(found.medians, exact, rtol=0.024)


def test_the_vocabulary_of_a_model_is_kept(files):
    vocabulary, medians = Vocabulary(["GENE7", "GENE1", "GENE99"]), np.array([1.0, 2.0, 3.0])
    found = survey(files[0], vocabulary=vocabulary, medians=medians)
    assert found.vocabulary is vocabulary
    assert found.medians is medians
    assert found.sources[0].token_ids.tolist() == [-1, 3, -1, -1, -1, -1]


def test_progress_and_empty_cells_are_told(tmp_path):
    counts = np.ones((10, 3))
    counts[[2, 5]] = 0
    path, told = write(tmp_path / "a.h5ad", counts, ["A", "B", "C"]), []
    found = survey([path], progress=lambda n, total: told.append((n, total)))
    assert found.empty == {str(path): 2}
    assert told == [(10, 10)]


def test_names_of_a_column(tmp_path):
    path = write(tmp_path / "a.h5ad", np.ones((5, 2)), ["ENSG1", "ENSG2"], ["CD3E", "MS4A1"])
    assert survey([path], gene_key="name").vocabulary.genes.tolist() == ["CD3E", "MS4A1"]
    with pytest.raises(ValueError, match=r"a\.h5ad: Column 'symbol' \(gene_key\) not found in var; it has \['name'\]"):
        survey([path], gene_key="symbol")


def test_features_that_are_no_genes_are_left_out(tmp_path):
    path = write(tmp_path / "a.h5ad", np.ones((5, 3)), ["A", "B", "antibody"])
    adata = ad.read_h5ad(path)
    adata.var["feature_types"] = ["Gene Expression", "Gene Expression", "Antibody Capture"]
    adata.write_h5ad(path)
    found = survey([path])
    assert found.vocabulary.genes.tolist() == ["A", "B"]
    assert found.sources[0].token_ids.tolist() == [2, 3, -1]


@pytest.mark.parametrize(("value", "said"), [(-1.0, "-1"), (np.nan, "nan")])
def test_bad_values_are_named(tmp_path, value, said):
    counts = np.ones((5, 3))
    counts[3, 1] = value
    path = write(tmp_path / "a.h5ad", counts, ["A", "B", "C"])
    with pytest.raises(ValueError, match=f"gene 'B' in cell 'cell3' is {said}"):
        survey([path])


def test_files_that_say_nothing_are_refused(tmp_path):
    path = write(tmp_path / "a.h5ad", np.zeros((5, 2)), ["A", "B"])
    with pytest.raises(ValueError, match="No cell expresses any gene"):
        survey([path])
    with pytest.raises(ValueError, match="no gene of the vocabulary"):
        survey([path], vocabulary=Vocabulary(["ENSMUSG00000000001"]))
    logged = write(tmp_path / "b.h5ad", np.log1p(np.random.default_rng(0).random((20, 2))), ["A", "B"])
    with pytest.raises(ValueError, match=r"b\.h5ad are no counts"):
        survey([logged])
    with pytest.raises(ValueError, match="no files"):
        survey([])
