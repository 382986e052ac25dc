"""Cells from files: every cell once, in an order that is drawn, shared out and continued as it should be."""

from __future__ import annotations

import pickle

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from scgenemamba.tokens import RankTokenizer, Scale, Vocabulary
from scgenemamba.train import Blocks, CellFile, CellOrder, CellStream, Source

VOCABULARY = Vocabulary([f"GENE{i}" for i in range(30)])
TOKENIZER = RankTokenizer(np.r_[np.nan, np.nan, np.ones(30)])


def make_file(folder, name, n_cells, genes, seed=0, kind="h5ad", matrix=sp.csr_matrix, layer=None):
    counts = np.random.default_rng(seed).poisson(1.0, size=(n_cells, len(genes))).astype(np.float32)
    counts[:, 0] += 1
    if layer is None:
        adata = ad.AnnData(matrix(counts))
    else:
        adata = ad.AnnData(shape=counts.shape, layers={layer: matrix(counts)})
    adata.var_names = [f"GENE{i}" for i in genes]
    path = folder / f"{name}.{kind}"
    adata.write_zarr(path) if kind == "zarr" else adata.write_h5ad(path)
    return path, counts


def sources_of(*paths):
    sources, first = [], 0
    for path in paths:
        file = CellFile(path)
        sources.append(Source(file, VOCABULARY.token_ids(file.var.index), Scale("counts"), first))
        first += file.n_cells
    return sources


@pytest.fixture
def two_files(tmp_path):
    """Files whose genes differ, and their values in token space."""
    a, in_a = make_file(tmp_path, "a", 300, list(range(20)))
    b, in_b = make_file(tmp_path, "b", 517, list(range(29, 9, -1)), seed=1)
    whole = np.zeros((817, 32))
    whole[:300, 2:22] = in_a
    whole[300:, 12:32] = in_b[:, ::-1]
    return sources_of(a, b), whole


def order_of(n_cells=(300, 517), batch_size=50, **options):
    return CellOrder(Blocks.of_files(n_cells), batch_size, **options)


def cells_of(stream):
    return [batch["cell"].tolist() for batch in stream]


# --- order


def test_blocks_cover_all_files():
    blocks = Blocks.of_files([300, 0, 64, 1])
    cells = [
        (f, c)
        for f, first, n in zip(blocks.file, blocks.first, blocks.size, strict=True)
        for c in range(first, first + n)
    ]
    assert cells == [(0, c) for c in range(300)] + [(2, c) for c in range(64)] + [(3, 0)]


def test_a_share_of_the_blocks_is_held_out():
    blocks = Blocks.of_files([6400])
    rest, held_out = blocks.split(0.1, seed=0)
    assert (len(rest), len(held_out)) == (90, 10)
    assert not set(rest.first) & set(held_out.first)
    assert blocks.split(0.1, seed=0)[1].first.tolist() == held_out.first.tolist()
    assert blocks.split(0.1, seed=1)[1].first.tolist() != held_out.first.tolist()
    assert len(blocks.split(0.0, 0)[1]) == 0
    assert len(blocks.split(1e-6, 0)[1]) == 1
    assert len(Blocks.of_files([10]).split(0.5, 0)[1]) == 0


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_all_processes_together_see_each_cell_once(two_files, world_size):
    sources, _ = two_files
    for epoch in (0, 1):
        seen, lengths = [], []
        for rank in range(world_size):
            stream = CellStream(sources, TOKENIZER, order_of(rank=rank, world_size=world_size))
            stream.epoch = epoch
            batches = cells_of(stream)
            assert len(batches) == len(stream)
            lengths.append(len(batches))
            seen += sum(batches, [])
        assert sorted(seen) == list(range(817))
        assert len(set(lengths)) == 1


def test_batches_have_the_size_asked_for_or_a_little_less(two_files):
    sizes = [len(batch) for batch in cells_of(CellStream(two_files[0], TOKENIZER, order_of()))]
    assert len(sizes) == 17
    assert set(sizes) == {48, 49}


def test_each_epoch_and_seed_has_an_order_of_its_own(two_files):
    sources, _ = two_files
    stream = CellStream(sources, TOKENIZER, order_of())
    first, second = cells_of(stream), cells_of(stream)
    assert first != second
    assert cells_of(CellStream(sources, TOKENIZER, order_of())) == first
    assert cells_of(CellStream(sources, TOKENIZER, order_of(seed=1))) != first


@pytest.mark.parametrize("world_size", [1, 2])
def test_it_continues_anywhere(tmp_path, world_size):
    """More cells than are mixed at a time, so that the batch may lie in any part."""
    path, _ = make_file(tmp_path, "a", 9_000, range(4))
    sources = sources_of(path)
    order = order_of([9_000], 700, rank=world_size - 1, world_size=world_size)
    whole = cells_of(CellStream(sources, TOKENIZER, order))
    for first_batch in range(len(whole) + 1):
        stream = CellStream(sources, TOKENIZER, order)
        stream.first_batch = first_batch
        assert cells_of(stream) == whole[first_batch:]
        assert (stream.epoch, stream.first_batch) == (1, 0)


def test_cells_are_mixed_nearly_as_if_all_were_shuffled():
    """Blocks of a sorted file: a batch has cells of most blocks that are read together."""
    order = order_of([64 * 640], 128)
    mixed = next(iter(order.mixed(0)))
    numbers = np.concatenate([np.arange(f, f + n) for f, n in zip(mixed.blocks.first, mixed.blocks.size, strict=True)])
    batches = (numbers[mixed.order] // 64)[: 128 * 32].reshape(32, 128)
    # 128 draws from 64 blocks find 55 of them
    assert np.mean([len(set(batch)) for batch in batches]) == pytest.approx(55, abs=2)
    # and the blocks come from everywhere
    assert np.std(mixed.blocks.first / (64 * 640)) == pytest.approx(0.29, abs=0.04)


def test_too_few_cells_for_the_processes_are_named():
    with pytest.raises(ValueError, match="65 cells cannot be shared out to 3 processes: that takes 192"):
        order_of([65], rank=0, world_size=3)


# --- files


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
@pytest.mark.parametrize("matrix", [sp.csr_matrix, np.asarray])
def test_values_are_those_of_the_file(tmp_path, kind, matrix):
    path, counts = make_file(tmp_path, "a", 150, range(5), kind=kind, matrix=matrix)
    file = CellFile(path)
    assert (file.n_cells, file.n_genes) == (150, 5)
    assert file.var.index.tolist() == [f"GENE{i}" for i in range(5)]
    np.testing.assert_array_equal(file.read(60, 30).toarray(), counts[60:90])
    again = pickle.loads(pickle.dumps(file))
    np.testing.assert_array_equal(again.read(140, 30).toarray(), counts[140:])
    assert file.spread(40).shape == (48, 5)
    assert file.spread(1000).shape == (150, 5)
    assert file.cell_names(np.array([3])) == ["3"]


def test_a_layer_is_read(tmp_path):
    path, counts = make_file(tmp_path, "a", 20, range(5), layer="counts")
    np.testing.assert_array_equal(CellFile(path, "counts").read(0, 20).toarray(), counts)
    with pytest.raises(ValueError, match=r"has no layers/raw; its layers are \['counts'\]"):
        CellFile(path, "raw")


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        CellFile(tmp_path / "nowhere.h5ad")
    (tmp_path / "text.h5ad").write_text("no")
    with pytest.raises(ValueError, match=r"text\.h5ad cannot be read as an AnnData"):
        CellFile(tmp_path / "text.h5ad")
    with pytest.raises(ValueError, match="by columns"):
        CellFile(make_file(tmp_path, "columns", 20, range(5), matrix=sp.csc_matrix)[0])
    with pytest.raises(ValueError, match="holds no cells"):
        CellFile(make_file(tmp_path, "empty", 0, range(5))[0])


# --- batches


def test_tokens_are_those_of_the_cells(two_files):
    sources, whole = two_files
    for batch in CellStream(sources, TOKENIZER, order_of()):
        cells = batch["cell"].numpy()
        ranked = TOKENIZER(sp.csr_matrix(whole[cells]))
        np.testing.assert_array_equal(batch["tokens"], ranked.tokens)
        np.testing.assert_array_equal(batch["cu_seqlens"], ranked.cu_seqlens)
