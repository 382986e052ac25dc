"""One look at files: genes, factors, scales, and what is wrong."""

from __future__ import annotations

import pickle
from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from scgenemamba.tokens import Vocabulary, nonzero_medians
from scgenemamba.train import kept_survey, load_survey, save_survey, survey

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


def test_cells_that_are_there_twice_are_counted(tmp_path):
    counts = np.random.default_rng(0).poisson(1.0, size=(100, 60))
    genes = [f"GENE{i}" for i in range(60)]
    first = write(tmp_path / "first.h5ad", counts, genes)
    assert survey([first]).repeated == {}
    # with the genes in another order
    part = write(tmp_path / "part.h5ad", counts[30:50, ::-1], genes[::-1])
    assert survey([first, part]).repeated == {str(part): 20}
    twice = write(tmp_path / "twice.h5ad", np.vstack([counts, counts[:5], counts[:2]]), genes)
    assert survey([twice]).repeated == {str(twice): 7}


def mixed(path, first, second, logged):
    both = sp.vstack([sp.csr_matrix(first), sp.csr_matrix(second)])
    return write(path, both.toarray(), [f"G{i}" for i in range(both.shape[1])], logged=logged)


def test_scales_that_are_mixed_in_one_file_are_named(tmp_path):
    generator = np.random.default_rng(0)
    counts = generator.poisson(2.0, size=(30, 20)) + (np.arange(20) == 0)
    logs = np.log1p(counts / counts.sum(1, keepdims=True) * 1e4)
    path = mixed(tmp_path / "a.h5ad", logs, counts[:3], logged=True)
    with pytest.raises(ValueError, match=r"a\.h5ad mixes scales: most cells hold log1p.*cell 'cell30' does not"):
        survey([path])
    many = np.tile(counts, (40, 1))
    path = mixed(tmp_path / "b.h5ad", many, logs[:1], logged=False)
    with pytest.raises(ValueError, match=r"mixes scales"):
        survey([path])


def corrupt(path):
    """Overwrite stored values, compressed so that reading fails."""
    import h5py

    ad.read_h5ad(path).write_h5ad(path.with_suffix(".new"), compression="gzip")
    # whoever has the old one open keeps it
    path.with_suffix(".new").replace(path)
    with h5py.File(path) as file:
        place = file["X/data"].id.get_chunk_info(0)
    with path.open("r+b") as file:
        file.seek(place.byte_offset)
        file.write(b"\0" * 40)


def test_corrupt_files_are_named_and_left_out_only_if_asked(files, tmp_path):
    paths, _ = files
    broken = write(
        tmp_path / "broken.h5ad", np.random.default_rng(1).poisson(3.0, (100, 4)), ["GENE1", "GENE2", "X", "Y"]
    )
    corrupt(broken)
    empty = tmp_path / "empty.h5ad"
    empty.write_bytes(b"")
    cut = tmp_path / "cut.h5ad"
    cut.write_bytes(paths[0].read_bytes()[:4000])
    nameless = write(tmp_path / "nameless.h5ad", np.ones((5, 2)), ["A", "B"])
    for path in (broken, empty, cut):
        with pytest.raises(ValueError, match=rf"{path.name} cannot be read"):
            survey([paths[0], path])
    found = survey([broken, paths[0], empty, cut, paths[1]], skip_corrupt=True)
    plain = survey(paths)
    assert list(found.skipped) == [str(broken), str(empty), str(cut)]
    assert all("cannot be read" in why for why in found.skipped.values())
    # as if they had never been named
    assert found.vocabulary.genes.tolist() == plain.vocabulary.genes.tolist()
    np.testing.assert_array_equal(found.medians, plain.medians)
    assert [source.first_cell for source in found.sources] == [0, 200]
    for one, other in zip(found.sources, plain.sources, strict=True):
        np.testing.assert_array_equal(one.token_ids, other.token_ids)
    with pytest.raises(ValueError, match="None of the 2 files can be used"):
        survey([empty, cut], skip_corrupt=True)
    with pytest.raises(ValueError, match="gene_key"):
        survey([nameless], gene_key="symbol")
    with pytest.raises(FileNotFoundError):
        survey([tmp_path / "nowhere.h5ad"], skip_corrupt=True)


def test_a_file_that_breaks_later_is_named_when_it_is_met(files, tmp_path):
    paths, _ = files
    found = survey(paths)
    # opened again, as in another process
    broken = replace(found.sources[0], file=pickle.loads(pickle.dumps(found.sources[0].file)))
    corrupt(paths[0])
    with pytest.raises(OSError, match=rf"{paths[0].name} cannot be read"):
        broken.file.read(0, 64)


def test_a_survey_is_kept_as_long_as_the_files_stay(files, tmp_path):
    paths, _ = files
    kept = tmp_path / "new" / "survey.npz"
    read = []
    first = kept_survey(kept, paths, progress=lambda n, total: read.append(n))
    assert read
    read.clear()
    again = kept_survey(kept, paths, progress=lambda n, total: read.append(n))
    assert not read
    assert again.vocabulary.genes.tolist() == first.vocabulary.genes.tolist()
    np.testing.assert_array_equal(again.medians, first.medians)
    assert [source.scale for source in again.sources] == [source.scale for source in first.sources]
    assert (again.sources[1].file.read(3, 5) != first.sources[1].file.read(3, 5)).nnz == 0
    # other files, another way of reading, another state of a file
    kept_survey(kept, paths[:1], progress=lambda n, total: read.append(n))
    assert read.pop() == 200
    read.clear()
    ad.read_h5ad(paths[0])[:150].write_h5ad(tmp_path / "other.h5ad")
    (tmp_path / "other.h5ad").replace(paths[0])
    kept_survey(kept, paths[:1], progress=lambda n, total: read.append(n))
    assert read == [150]
    save_survey(first, kept, "something else")
    assert load_survey(kept, "this") is None
