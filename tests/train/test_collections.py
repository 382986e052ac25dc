"""Cells from annbatch collections: the same ones as from the files that the collection was made of."""

from __future__ import annotations

from collections import Counter

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import zarr

from scgenemamba.tokens import RankTokenizer, Scale, Vocabulary
from scgenemamba.train import Blocks, CellFile, CellOrder, CellStream, Source, datasets_of, rust_codecs, survey
from scgenemamba.train._stream import _zarr_parts

VOCABULARY = Vocabulary([f"GENE{i}" for i in range(30)])
TOKENIZER = RankTokenizer(np.r_[np.nan, np.nan, np.ones(30)])


def cells(n_cells, genes, seed=0):
    counts = np.random.default_rng(seed).poisson(1.0, size=(n_cells, len(genes))).astype(np.float32)
    # cells without any value, too
    counts[1:4] = 0
    adata = ad.AnnData(sp.csr_matrix(counts))
    adata.obs_names = [f"cell{seed}_{i}" for i in range(n_cells)]
    adata.var_names = [f"GENE{i}" for i in genes]
    adata.layers["doubled"] = adata.X * 2
    return adata


def write_parts(path, *parts):
    """A store laid out as annbatch does it, without annbatch."""
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.attrs.update({"encoding-type": "annbatch-preshuffled", "encoding-version": "0.1.0"})
    for number, part in enumerate(parts):
        ad.io.write_elem(group, f"dataset_{number}", part)
    return path


def tokens_of(paths, layer=None):
    """How often each sequence of tokens is streamed."""
    sources, first = [], 0
    for path in datasets_of(paths):
        file = CellFile(path, layer)
        sources.append(Source(file, VOCABULARY.token_ids(file.var.index), Scale("counts"), first))
        first += file.n_cells
    order = CellOrder(Blocks.of_files([source.file.n_cells for source in sources]), 50)
    seen, numbers = Counter(), []
    for batch in CellStream(sources, TOKENIZER, order):
        bounds = batch["cu_seqlens"].tolist()
        seen.update(tuple(batch["tokens"][a:b].tolist()) for a, b in zip(bounds[:-1], bounds[1:], strict=True))
        numbers += batch["cell"].tolist()
    assert sorted(numbers) == list(range(first))
    return seen


@pytest.fixture
def files(tmp_path):
    """Files whose genes differ."""
    paths = [tmp_path / "a.h5ad", tmp_path / "b.h5ad"]
    cells(300, range(20)).write_h5ad(paths[0])
    cells(517, range(29, 9, -1), seed=1).write_h5ad(paths[1])
    return paths


def test_data_sets_come_in_the_order_of_their_numbers(tmp_path):
    store = write_parts(tmp_path / "all.zarr", *(cells(5, range(3), seed=i) for i in range(11)))
    assert datasets_of([store, "other.h5ad"]) == [
        *(store / f"dataset_{i}" for i in range(11)),
        tmp_path.joinpath("other.h5ad").relative_to(tmp_path),
    ]


def test_several_data_sets_are_streamed_as_files_are(tmp_path, files):
    store = write_parts(tmp_path / "all.zarr", *map(ad.read_h5ad, files))
    assert tokens_of([store]) == tokens_of(files)
    assert tokens_of([store], "doubled") == tokens_of(files, "doubled")
    # beside a file
    assert tokens_of([store, files[0]]) == tokens_of(files) + tokens_of(files[:1])


@pytest.mark.parametrize("gigabytes", [2.0, 1e-6])
def test_a_converted_collection_holds_the_cells_of_its_files(tmp_path, files, gigabytes, monkeypatch):
    pytest.importorskip("annbatch")
    from scgenemamba.cli import _convert

    monkeypatch.setattr(_convert, "_RUN", 100)
    store = tmp_path / "all.zarr"
    _convert.run_convert(_convert.ConvertRequest(files, store, gigabytes=gigabytes))
    assert len(datasets_of([store])) == (1 if gigabytes > 1 else 5)
    assert tokens_of([store]) == tokens_of(files)
    assert tokens_of([store]).total() == 817


def test_the_survey_takes_collections_for_their_data_sets(tmp_path, files):
    pytest.importorskip("boost_histogram")
    store = write_parts(tmp_path / "all.zarr", *map(ad.read_h5ad, files))
    found, of_files = survey([store]), survey(files)
    assert found.n_cells == 817
    assert found.vocabulary.genes.tolist() == of_files.vocabulary.genes.tolist()
    np.testing.assert_array_equal(found.medians, of_files.medians)
    assert found.empty == {str(store / "dataset_0"): 3, str(store / "dataset_1"): 3}


@pytest.mark.parametrize("shards", [None, (1200,)])
def test_parts_of_a_zarr_array_are_read_at_once(tmp_path, shards, monkeypatch):
    values = np.arange(5_000)
    with rust_codecs():
        array = zarr.create_array(tmp_path / "a.zarr", data=values, chunks=(60,), shards=shards)
    other = zarr.create_array(tmp_path / "b.zarr", data=values.reshape(1_000, 5), chunks=(7, 5))
    parts = [slice(4_000, 4_010), slice(10, 10), slice(1_000, 2_500), slice(59, 61)]
    rows = [slice(3, 9), slice(990, 1_000)]
    expected = [values[np.r_[tuple(parts)]], values.reshape(1_000, 5)[np.r_[tuple(rows)]]]
    # fails where a new zarr no longer has what this takes: it would be slow, but not wrong
    assert _zarr_parts._indexer(array.async_array, parts) is not None
    for _ in range(2):
        for read, wanted in zip(_zarr_parts.read_parts([(array, parts), (other, rows)]), expected, strict=True):
            np.testing.assert_array_equal(read, wanted)
        assert len(_zarr_parts.read_parts([(array, [slice(5, 5), slice(7, 7)])])[0]) == 0
        monkeypatch.setattr(_zarr_parts, "_indexer", lambda array, parts: None)


def test_no_setting_of_zarr_is_left_changed(tmp_path, files):
    before = zarr.config.get("codec_pipeline.path")
    store = write_parts(tmp_path / "all.zarr", ad.read_h5ad(files[0]))
    assert tokens_of([store]).total() == 300
    assert zarr.config.get("codec_pipeline.path") == before


def test_folders_that_hold_no_cells_are_refused(tmp_path, files):
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "a.h5ad").write_bytes(files[0].read_bytes())
    zarr.create_array(tmp_path / "array.zarr", data=np.ones(3))
    unfinished = write_parts(tmp_path / "unfinished.zarr", ad.read_h5ad(files[0]))
    zarr.open_group(unfinished, mode="r+").attrs.clear()
    empty = write_parts(tmp_path / "empty.zarr")
    for path in (tmp_path / "plain", tmp_path / "array.zarr", unfinished, empty):
        assert datasets_of([path]) == [path]
        with pytest.raises(
            ValueError, match=rf"{path.name} holds no AnnData: a folder is a zarr store, .* annbatch collection"
        ):
            CellFile(path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        survey([tmp_path / "nowhere.zarr"])
