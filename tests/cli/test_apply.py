"""Embedding and annotating files from the shell."""

from __future__ import annotations

import hashlib
import shutil

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scgenemamba.cli import main

from .checkpoints import GENES, human_cells, make_published, write

TABLES = {".csv": ",", ".tsv": "\t"}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return make_published(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of ours that knows labels."""
    from scgenemamba import GeneMambaModel

    adata = human_cells(n_cells=60)
    GeneMambaModel.setup_anndata(adata, labels_key="cell_type", batch_key="batch")
    model = GeneMambaModel(adata, preset="tiny")
    model.train(max_epochs=3, batch_size=16)
    folder = tmp_path_factory.mktemp("trained")
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def cells(tmp_path):
    return write(human_cells(), tmp_path / "cells.h5ad")


@pytest.fixture
def three(tmp_path):
    """Three files of different cells, the second a .zarr."""
    names = ("a.h5ad", "b.zarr", "c.h5ad")
    return [write(human_cells(30, seed=i), tmp_path / name) for i, name in enumerate(names)]


def run(command, inputs, model, out, *options):
    inputs = inputs if isinstance(inputs, list) else [inputs]
    return main([command, *map(str, inputs), "--model", str(model), "--out", str(out), "--device", "cpu", *options])


def read(path):
    return ad.read_zarr(path) if path.suffix == ".zarr" else ad.read_h5ad(path)


def embedding(path):
    return np.asarray(read(path).obsm["X_genemamba"])


def fingerprint(path):
    """Of a file, or of all files in a folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return [(str(p.relative_to(path)), hashlib.sha256(p.read_bytes()).hexdigest()) for p in files]


def leftovers(folder):
    return [path.name for path in folder.rglob("*partial*")]


def expected(checkpoint, adata):
    from scgenemamba import GeneMambaModel

    return GeneMambaModel.from_pretrained(checkpoint).get_latent_representation(adata)


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_embed_keeps_the_cells_and_adds_the_result(cells, published, tmp_path, suffix):
    out = tmp_path / f"result{suffix}"
    before = fingerprint(cells)
    assert run("embed", cells, published, out) == 0
    assert fingerprint(cells) == before
    assert leftovers(tmp_path) == []
    given, result = read(cells), read(out)
    np.testing.assert_array_equal(result.obsm["X_genemamba"], expected(published, read(cells)))
    assert list(result.obs) == list(given.obs)
    assert set(result.obsm) == {"X_pca", "X_genemamba"}
    assert set(result.uns) == {"title"}
    assert set(result.layers) == {"counts"}
    np.testing.assert_array_equal(result.X.toarray(), given.X.toarray())
    assert list(result.var_names) == GENES


def test_a_zarr_is_read_like_an_h5ad(cells, published, tmp_path):
    as_zarr = write(read(cells), tmp_path / "same.zarr")
    before = fingerprint(as_zarr)
    assert run("embed", as_zarr, published, tmp_path / "from_zarr.h5ad") == 0
    assert run("embed", cells, published, tmp_path / "from_h5ad.h5ad") == 0
    assert fingerprint(as_zarr) == before
    np.testing.assert_array_equal(embedding(tmp_path / "from_zarr.h5ad"), embedding(tmp_path / "from_h5ad.h5ad"))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_embed_as_a_table(cells, published, tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / f"result{suffix}"
    assert run("embed", cells, published, out, "--key", "E") == 0
    table = pd.read_parquet(out) if suffix == ".parquet" else pd.read_csv(out, sep=TABLES[suffix], index_col="cell")
    assert list(table.index) == list(read(cells).obs_names)
    assert list(table.columns[:2]) == ["E_0", "E_1"]
    np.testing.assert_allclose(table.to_numpy(), expected(published, read(cells)), rtol=1e-6)


def test_parquet_without_an_engine_says_what_is_needed(cells, published, tmp_path, monkeypatch, capsys):
    def fail(*args, **kwargs):
        msg = "Unable to find a usable engine"
        raise ImportError(msg)

    monkeypatch.setattr(pd.DataFrame, "to_parquet", fail)
    assert run("embed", cells, published, tmp_path / "result.parquet") == 1
    assert "pip install pyarrow" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["cells.h5ad"]


def test_several_files_and_a_resumed_run(three, published, tmp_path, capsys):
    out = tmp_path / "results"
    before = [fingerprint(path) for path in three]
    assert run("embed", three, published, out) == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.h5ad", "b.zarr", "c.h5ad"]
    first = {path.name: embedding(path) for path in out.iterdir()}
    kept = fingerprint(out / "a.h5ad"), fingerprint(out / "b.zarr")
    # what is estimated from the data comes from the first file, also where another one is left
    (out / "c.h5ad").unlink()
    capsys.readouterr()
    assert run("embed", three, published, out) == 0
    told = capsys.readouterr().err
    assert told.count("is there and is skipped") == 2
    assert "[1/1]" in told
    np.testing.assert_array_equal(embedding(out / "c.h5ad"), first["c.h5ad"])
    assert (fingerprint(out / "a.h5ad"), fingerprint(out / "b.zarr")) == kept
    assert [fingerprint(path) for path in three] == before
    assert all("_scvi" not in name for path in out.iterdir() for name in [*read(path).obs, *read(path).uns])
    # alone, the file would have factors of its own
    assert run("embed", three[2], published, tmp_path / "alone.h5ad") == 0
    assert not np.array_equal(embedding(tmp_path / "alone.h5ad"), first["c.h5ad"])


def test_a_resumed_run_of_a_model_with_factors_reads_only_what_is_left(three, trained, tmp_path, monkeypatch):
    out = tmp_path / "results"
    assert run("embed", three, trained, out) == 0
    before = embedding(out / "c.h5ad")
    (out / "c.h5ad").unlink()
    seen = []
    real = ad.read_h5ad
    monkeypatch.setattr(ad, "read_h5ad", lambda path: seen.append(path.name) or real(path))
    assert run("embed", three, trained, out) == 0
    assert seen == ["c.h5ad"]
    np.testing.assert_array_equal(real(out / "c.h5ad").obsm["X_genemamba"], before)


def test_files_are_not_kept_in_memory(three, published, tmp_path, monkeypatch):
    import gc
    import weakref

    seen = []
    real = ad.AnnData.write_h5ad

    def write_and_remember(self, path):
        seen.append(weakref.ref(self))
        real(self, path)
        gc.collect()
        # the first is the model's own
        assert sum(cells() is not None for cells in seen) <= 2

    monkeypatch.setattr(ad.AnnData, "write_h5ad", write_and_remember)
    inputs = [three[0], three[2], *(write(human_cells(20), tmp_path / f"more{i}.h5ad") for i in range(2))]
    seen.clear()
    assert run("embed", inputs, published, tmp_path / "results") == 0
    assert len(seen) == 4


def test_files_that_were_set_up_before_are_read_like_others(published, tmp_path):
    from scgenemamba import GeneMambaModel

    plain, used = human_cells(30, seed=0), human_cells(30, seed=1)
    options = ("--rank-mode", "raw")
    for i, adata in enumerate((plain, used)):
        write(adata, tmp_path / f"plain{i}.h5ad")
        GeneMambaModel.setup_anndata(adata, labels_key="cell_type")
    # as copies of one AnnData have it
    used.uns["_scvi_uuid"] = plain.uns["_scvi_uuid"]
    write(plain, tmp_path / "a.h5ad"), write(used, tmp_path / "b.h5ad")
    assert run("embed", [tmp_path / "a.h5ad", tmp_path / "b.h5ad"], published, tmp_path / "results", *options) == 0
    for name, original in (("a", "plain0"), ("b", "plain1")):
        assert run("embed", tmp_path / f"{original}.h5ad", published, tmp_path / f"{original}_out.h5ad", *options) == 0
        result = tmp_path / "results" / f"{name}.h5ad"
        np.testing.assert_array_equal(embedding(result), embedding(tmp_path / f"{original}_out.h5ad"))
        assert not any("_scvi" in key for key in [*read(result).obs, *read(result).uns])


def test_nothing_is_overwritten_unasked(cells, published, tmp_path, capsys):
    out = tmp_path / "result.csv"
    out.write_text("mine")
    assert run("embed", cells, "no/such-model", out) == 0
    assert out.read_text() == "mine"
    assert "--overwrite" in capsys.readouterr().err
    assert run("embed", cells, published, out, "--overwrite") == 0
    assert len(pd.read_csv(out)) == 40


def test_overwrite_replaces_a_zarr(cells, published, tmp_path):
    out = tmp_path / "result.zarr"
    assert run("embed", cells, published, out, "--key", "old") == 0
    assert run("embed", cells, published, out, "--key", "new", "--overwrite") == 0
    assert set(read(out).obsm) == {"X_pca", "new"}
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr", ".csv"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_no_result(cells, published, tmp_path, monkeypatch, suffix, error):
    out = tmp_path / f"result{suffix}"

    def half(self, path, *args, **kwargs):
        if suffix == ".zarr":
            path.mkdir()
            path = path / "zarr.json"
        path.write_text("half of it")
        raise error

    owner, name = {
        ".h5ad": (ad.AnnData, "write_h5ad"),
        ".zarr": (ad.AnnData, "write_zarr"),
        ".csv": (pd.DataFrame, "to_csv"),
    }[suffix]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, half)
        try:
            assert run("embed", cells, published, out) == 1
        except error:
            pass
    assert not out.exists()
    assert leftovers(tmp_path) == []
    # one that a power cut left is in nobody's way
    (tmp_path / f".result.partial{suffix}").write_text("half of it")
    assert run("embed", cells, published, out) == 0
    assert out.exists()
    assert leftovers(tmp_path) == []


def test_a_failed_replacement_keeps_the_old_result(cells, published, tmp_path, monkeypatch):
    out = tmp_path / "result.h5ad"
    assert run("embed", cells, published, out) == 0
    before = fingerprint(out)

    def fail(self, path):
        raise KeyboardInterrupt

    monkeypatch.setattr(ad.AnnData, "write_h5ad", fail)
    with pytest.raises(KeyboardInterrupt):
        run("embed", cells, published, out, "--overwrite")
    assert fingerprint(out) == before


ANNOTATION = ["", "_probability", "_label", "_novelty", "_set"]


def test_annotate_writes_what_annotate_of_tl_writes(cells, trained, tmp_path):
    from scgenemamba import GeneMambaModel, tl

    assert run("annotate", cells, trained, tmp_path / "result.h5ad") == 0
    result, wanted = read(tmp_path / "result.h5ad"), read(cells)
    tl.annotate(GeneMambaModel.from_pretrained(trained), wanted)
    added = [name for name in result.obs if name not in read(cells).obs]
    assert added == [f"genemamba{end}" for end in ANNOTATION]
    pd.testing.assert_frame_equal(result.obs[added], wanted.obs[added])
    assert run("annotate", cells, trained, tmp_path / "result.csv", "--key", "type") == 0
    table = pd.read_csv(tmp_path / "result.csv", index_col="cell", keep_default_na=False)
    assert list(table) == [f"type{end}" for end in ANNOTATION]
    assert list(table["type"]) == list(result.obs["genemamba"])
    assert list(table["type_set"]) == list(result.obs["genemamba_set"])


@pytest.fixture(scope="module")
def uncalibrated(trained, tmp_path_factory):
    """A model that was saved before there was an annotation."""
    import json

    folder = tmp_path_factory.mktemp("uncalibrated") / "model"
    shutil.copytree(trained, folder)
    (folder / "annotation.safetensors").unlink()
    config = json.loads((folder / "config.json").read_text())
    del config["attributes"]["annotation_labels_"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_annotate_without_calibration_writes_label_and_probability(cells, uncalibrated, tmp_path):
    from scgenemamba import GeneMambaModel

    assert run("annotate", cells, uncalibrated, tmp_path / "result.h5ad") == 0
    result = read(tmp_path / "result.h5ad")
    wanted = GeneMambaModel.from_pretrained(uncalibrated).predict(read(cells), soft=True)
    assert result.obs["genemamba"].dtype == "category"
    assert list(result.obs["genemamba"]) == list(wanted.idxmax(axis=1))
    np.testing.assert_array_equal(result.obs["genemamba_probability"], wanted.max(axis=1))
    assert [name for name in result.obs if name not in read(cells).obs] == ["genemamba", "genemamba_probability"]


def test_names_of_cells_may_occur_twice(trained, tmp_path):
    adata = human_cells()
    adata.obs_names = ["twice", "twice", *adata.obs_names[2:]]
    source = write(adata, tmp_path / "cells.h5ad")
    assert run("annotate", source, trained, tmp_path / "result.h5ad") == 0
    assert run("annotate", source, trained, tmp_path / "result.csv") == 0
    table = pd.read_csv(tmp_path / "result.csv", index_col="cell")
    assert list(read(tmp_path / "result.h5ad").obs["genemamba"]) == list(table["genemamba"])


def test_a_model_without_labels_says_so(cells, published, tmp_path, capsys):
    assert run("annotate", cells, published, tmp_path / "result.h5ad") == 1
    assert "no labels" in capsys.readouterr().err
    assert not (tmp_path / "result.h5ad").exists()


def make_inputs(tmp_path, cells):
    other = tmp_path / "other"
    other.mkdir()
    (tmp_path / "text.h5ad").write_text("this is no AnnData")
    (tmp_path / "empty.zarr").mkdir()
    (tmp_path / "cells.loom").touch()
    return {
        "other": write(human_cells(), other / "cells.h5ad"),
        "cells": cells,
        "zarr": write(read(cells), tmp_path / "z.zarr"),
    }


@pytest.mark.parametrize(
    ("inputs", "out", "message"),
    [
        (["missing.h5ad"], "out.h5ad", "not found"),
        (["cells.loom"], "out.h5ad", "neither .h5ad nor .zarr"),
        (["text.h5ad"], "out.h5ad", "text.h5ad cannot be read"),
        (["empty.zarr"], "out.h5ad", "empty.zarr cannot be read"),
        (["cells.h5ad"], "out.xlsx", "no kind of result"),
        (["cells.h5ad"], "cells.loom", "no kind of result"),
        (["cells.h5ad", "z.zarr"], "out.h5ad", "must be a folder"),
        (["cells.h5ad", "z.zarr"], "cells.loom", "must be a folder"),
        (["cells.h5ad", "other/cells.h5ad"], "results", "equal names"),
        (["cells.h5ad"], "cells.h5ad", "would change an input"),
        (["cells.h5ad"], ".", "would change an input"),
        (["cells.h5ad", "other/../z.zarr"], ".", "would change an input"),
        (["z.zarr"], "z.zarr/result.csv", "would change an input"),
    ],
)
def test_refusals_are_one_line_and_leave_all_as_it_is(cells, published, tmp_path, capsys, inputs, out, message):
    make_inputs(tmp_path, cells)
    before = fingerprint(tmp_path)
    assert run("embed", [tmp_path / name for name in inputs], published, tmp_path / out, "--overwrite") == 1
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("scgenemamba: ")]
    assert len(told) == 1
    assert message in told[0]
    assert fingerprint(tmp_path) == before


def test_a_folder_may_have_a_dot_in_its_name(cells, published, tmp_path):
    (tmp_path / "run.first").mkdir()
    assert run("embed", cells, published, tmp_path / "run.first") == 0
    assert run("embed", cells, published, tmp_path / "run.2") == 0
    assert (tmp_path / "run.first" / "cells.h5ad").is_file()
    assert (tmp_path / "run.2" / "cells.h5ad").is_file()


def test_a_missing_model_is_one_line(cells, tmp_path, capsys):
    assert run("embed", cells, tmp_path / "nothing", tmp_path / "out.h5ad") == 1
    assert "neither a folder nor a repository" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["published", "trained"])
def test_nonsense_genes_are_refused_with_the_report(tmp_path, capsys, request, model):
    adata = human_cells()
    adata.var_names = [f"probe_{i}" for i in range(adata.n_vars)]
    source = write(adata, tmp_path / "cells.h5ad")
    assert run("embed", source, request.getfixturevalue(model), tmp_path / "out.h5ad") == 1
    told = capsys.readouterr().err
    assert "0.0% of the counts" in told
    assert f"Not used ({len(GENES)}): probe_" in told
    assert not (tmp_path / "out.h5ad").exists()


def test_results_before_a_bad_file_stay(three, published, tmp_path, capsys):
    bad = read(three[2])
    bad.var_names = [f"probe_{i}" for i in range(bad.n_vars)]
    write(bad, three[2])
    out = tmp_path / "results"
    assert run("embed", three, published, out) == 1
    assert sorted(path.name for path in out.iterdir()) == ["a.h5ad", "b.zarr"]


def test_a_lower_share_of_counts_can_be_accepted(tmp_path, published):
    adata = human_cells()
    adata.var_names = [*GENES[:10], *(f"probe_{i}" for i in range(adata.n_vars - 10))]
    source = write(adata, tmp_path / "cells.h5ad")
    assert run("embed", source, published, tmp_path / "out.h5ad") == 1
    assert run("embed", source, published, tmp_path / "out.h5ad", "--min-counts-share", "0.01") == 0


def test_warnings_are_plain_text(cells, published, tmp_path, capsys):
    assert run("embed", cells, published, tmp_path / "out.h5ad") == 0
    told = capsys.readouterr().err
    assert "Warning: The data have a panel of" in told
    assert ".py:" not in told


def test_layer_and_gene_key(cells, published, tmp_path):
    adata = read(cells)
    adata.var["symbol"] = adata.var_names.to_numpy()
    adata.var_names = [f"probe_{i}" for i in range(adata.n_vars)]
    adata.X = adata.X * 0
    source = write(adata, tmp_path / "moved.h5ad")
    options = ("--layer", "counts", "--gene-key", "symbol")
    assert run("embed", source, published, tmp_path / "out.h5ad", *options) == 0
    assert run("embed", cells, published, tmp_path / "plain.h5ad") == 0
    np.testing.assert_array_equal(embedding(tmp_path / "out.h5ad"), embedding(tmp_path / "plain.h5ad"))


def test_gene_medians_and_rank_mode_change_the_order(cells, published, tmp_path, capsys):
    medians = pd.DataFrame({"gene": GENES, "median": np.linspace(0.1, 10, len(GENES))})
    medians.to_csv(tmp_path / "medians.tsv", sep="\t", index=False)
    outs = {
        "estimated": (),
        "medians": ("--gene-medians", str(tmp_path / "medians.tsv")),
        "raw": ("--rank-mode", "raw"),
    }
    for name, options in outs.items():
        assert run("embed", cells, published, tmp_path / f"{name}.h5ad", *options) == 0
    found = [embedding(tmp_path / f"{name}.h5ad") for name in outs]
    assert all(np.isfinite(table).all() for table in found)
    assert not any(np.array_equal(found[i], found[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    # with factors of its own a file gives the same, whatever came before it
    first = write(human_cells(seed=5), tmp_path / "first.h5ad")
    assert run("embed", [first, cells], published, tmp_path / "both", *outs["medians"]) == 0
    np.testing.assert_array_equal(embedding(tmp_path / "both" / "cells.h5ad"), found[1])


def test_our_own_checkpoints_have_their_own_factors(cells, trained, tmp_path, capsys):
    options = ("--gene-medians", str(tmp_path / "medians.tsv"))
    assert run("embed", cells, trained, tmp_path / "out.h5ad", *options) == 1
    assert "leave it out" in capsys.readouterr().err


def test_batch_size_does_not_matter(cells, published, tmp_path):
    for size in ("7", "40"):
        assert run("embed", cells, published, tmp_path / f"{size}.h5ad", "--batch-size", size) == 0
    np.testing.assert_allclose(embedding(tmp_path / "7.h5ad"), embedding(tmp_path / "40.h5ad"), atol=1e-5)
