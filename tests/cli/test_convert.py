"""Writing an annbatch collection from the shell."""

from __future__ import annotations

import importlib.util
import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scgenemamba.cli import main
from scgenemamba.train import datasets_of

needs_annbatch = pytest.mark.skipif(importlib.util.find_spec("annbatch") is None, reason="needs annbatch")


def make(path, counts, genes, **columns):
    adata = ad.AnnData(sp.csr_matrix(np.asarray(counts, dtype=np.float32)))
    adata.obs_names = [f"{path.stem}{i}" for i in range(adata.n_obs)]
    adata.var_names = genes
    for name, values in columns.items():
        adata.obs[name] = values
    adata.write_zarr(path) if path.suffix == ".zarr" else adata.write_h5ad(path)
    return path


@pytest.fixture
def files(tmp_path):
    generator = np.random.default_rng(0)
    first, second = generator.poisson(1.0, size=(40, 3)), generator.poisson(1.0, size=(30, 2))
    kinds = pd.Categorical(["T", "B"] * 20)
    return [
        make(tmp_path / "a.h5ad", first, ["CD3E", "CD4", "MS4A1"], kind=kinds, depth=np.arange(40), good=[True] * 40),
        make(tmp_path / "b.zarr", second, ["MS4A1", "LYZ"], kind=pd.Categorical(["T", "NK", "B"] * 10)),
    ]


def convert(*arguments):
    return main(["convert", *map(str, arguments)])


def read(store):
    """All cells of a collection, in the order of their names."""
    adata = ad.concat([ad.read_zarr(path) for path in datasets_of([store])])
    return adata[np.sort(adata.obs_names.to_numpy(dtype=str))]


def leftovers(folder):
    return [path.name for path in folder.iterdir() if "partial" in path.name]


@needs_annbatch
def test_cells_of_files_with_other_genes_are_joined_by_name(files, tmp_path, capsys):
    out = tmp_path / "new" / "all.zarr"
    assert convert(*files, "--out", out) == 0
    assert "70 cells, 4 genes, 1 data sets" in capsys.readouterr().err
    assert leftovers(out.parent) == []
    result = read(out)
    expected = ad.concat([ad.read_h5ad(files[0]), ad.read_zarr(files[1])], join="outer", fill_value=0).to_df()
    pd.testing.assert_frame_equal(result.to_df().loc[expected.index, expected.columns], expected, check_names=False)
    assert result.obs["kind"].cat.categories.tolist() == ["B", "NK", "T"]
    assert result.obs.loc["a3", "kind"] == "B"
    assert result.obs.loc["a3", "depth"] == 3
    assert np.isnan(result.obs.loc["b3", "depth"])


@needs_annbatch
def test_cells_are_shuffled_the_same_each_time(files, tmp_path):
    orders = []
    for number, seed in enumerate([0, 0, 1]):
        assert convert(*files, "--out", tmp_path / f"{number}.zarr", "--seed", seed) == 0
        orders.append(ad.read_zarr(tmp_path / f"{number}.zarr" / "dataset_0").obs_names.tolist())
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != sorted(orders[0])


@needs_annbatch
def test_layer_and_names_of_genes_are_those_asked_for(tmp_path):
    """Features of one name are summed, those that are no genes are left out."""
    counts = np.random.default_rng(0).poisson(2.0, size=(20, 4)).astype(np.float32)
    adata = ad.AnnData(np.log1p(counts), layers={"counts": counts})
    adata.var["symbol"] = ["CD4", "CD8A", "CD4", "tag"]
    adata.var["feature_types"] = ["Gene Expression"] * 3 + ["Antibody Capture"]
    adata.write_h5ad(tmp_path / "a.h5ad")
    out = tmp_path / "all.zarr"
    assert convert(tmp_path / "a.h5ad", "--out", out, "--layer", "counts", "--gene-key", "symbol") == 0
    result = ad.read_zarr(out / "dataset_0")
    assert result.var_names.tolist() == ["CD4", "CD8A"]
    whole = counts[result.obs_names.astype(int)]
    np.testing.assert_array_equal(result.X.toarray(), np.stack([whole[:, 0] + whole[:, 2], whole[:, 1]], axis=1))


@needs_annbatch
def test_a_collection_can_be_converted_again(files, tmp_path):
    assert convert(*files, "--out", tmp_path / "one.zarr") == 0
    assert convert(tmp_path / "one.zarr", "--out", tmp_path / "two.zarr", "--seed", 1) == 0
    one, two = read(tmp_path / "one.zarr"), read(tmp_path / "two.zarr")
    pd.testing.assert_frame_equal(one.to_df(), two.to_df()[one.var_names])


@needs_annbatch
def test_what_is_there_is_kept_unless_told_otherwise(files, tmp_path, capsys):
    out = tmp_path / "all.zarr"
    assert convert(files[0], "--out", out) == 0
    assert convert(*files, "--out", out) == 1
    assert "all.zarr is there; --overwrite replaces it" in capsys.readouterr().err
    assert read(out).n_obs == 40
    assert convert(*files, "--out", out, "--overwrite") == 0
    assert read(out).n_obs == 70


@needs_annbatch
def test_an_interrupted_run_leaves_nothing_behind(files, tmp_path, monkeypatch):
    import annbatch

    def interrupt(self, *args, **options):
        (tmp_path / ".all.partial.zarr" / "dataset_0").mkdir()
        raise KeyboardInterrupt

    out = tmp_path / "all.zarr"
    assert convert(files[0], "--out", out) == 0
    monkeypatch.setattr(annbatch.DatasetCollection, "add_adatas", interrupt)
    with pytest.raises(KeyboardInterrupt):
        convert(*files, "--out", out, "--overwrite")
    assert leftovers(tmp_path) == []
    assert read(out).n_obs == 40


@needs_annbatch
def test_what_cannot_be_used_is_named_before_anything_is_written(files, tmp_path, capsys):
    def refused(*arguments):
        assert convert(*arguments) == 1
        assert not (tmp_path / "all.zarr").exists()
        assert leftovers(tmp_path) == []
        return capsys.readouterr().err

    out = ["--out", tmp_path / "all.zarr"]
    assert "Not found: x.h5ad, y.h5ad." in refused("x.h5ad", files[0], "y.h5ad", *out)
    assert "a.h5ad has no layers/raw" in refused(*files, *out, "--layer", "raw")
    assert "a.h5ad: Column 'symbol'" in refused(*files, *out, "--gene-key", "symbol")
    assert "a folder whose name ends in .zarr" in refused(*files, "--out", tmp_path / "all")
    assert "would change an input" in refused(*files, "--out", files[1], "--overwrite")
    assert "would change an input" in refused(*files, "--out", files[1] / "all.zarr")
    logged = make(tmp_path / "logged.h5ad", np.log1p(np.random.default_rng(0).random((20, 2))), ["A", "B"])
    assert "logged.h5ad are no counts (of unknown scale)" in refused(*files, logged, *out)
    (tmp_path / "folder").mkdir()
    assert "folder holds no AnnData" in refused(tmp_path / "folder", *out)


def test_without_annbatch_the_extra_is_named(files, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "annbatch", None)
    assert convert(*files, "--out", tmp_path / "all.zarr") == 1
    assert capsys.readouterr().err == (
        "scgenemamba: Collections are written by annbatch, which needs Python 3.12 or later: "
        'pip install "scgenemamba[annbatch]"\n'
    )
    assert not (tmp_path / "all.zarr").exists()
