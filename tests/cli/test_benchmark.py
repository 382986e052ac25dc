"""The comparison from the shell."""

from __future__ import annotations

import json
import sys

import pandas as pd
import pytest

from scgenemamba.cli import main
from tests.conftest import make_adata

ARGUMENTS = ["--batch", "batch", "--labels", "cell_type", "--tasks", "annotation", "--quick", "--preset", "tiny"]


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    make_adata(n_cells=80).write_h5ad(path)
    return path


def run(cells, out, *options):
    return main(["benchmark", str(cells), "--out", str(out), *ARGUMENTS, *options])


def test_tables_figures_and_progress(cells, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scgenemamba", "benchmark", "my cells.h5ad"])
    options = [
        "--methods",
        "logistic-regression",
        "scgenemamba",
        "--splits",
        "by-batch",
        "--seeds",
        "1",
        "--max-folds",
        "1",
    ]
    assert run(cells, tmp_path, *options, "--max-epochs", "1") == 0
    printed = capsys.readouterr()
    assert printed.out == (tmp_path / "table.md").read_text()
    assert "A quick run" in printed.out and "**scGeneMamba**" in printed.out
    assert "2 runs to do, about" in printed.err and "[2/2] scGeneMamba, by batch" in printed.err
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["command"] == "scgenemamba benchmark 'my cells.h5ad'"
    assert record["settings"]["max_epochs"] == 1 and record["keys"]["batch"] == "batch"
    rows = pd.read_csv(tmp_path / "annotation.csv")
    assert rows["method"].tolist() == ["logistic regression", "scGeneMamba"]
    assert rows["message"].isna().all()
    fold = rows["fold"][0]
    figures = {path.name for path in tmp_path.glob("*.png")}
    assert figures >= {f"{kind}_by_batch_{fold}.png" for kind in ("confusion", "calibration", "per_class_f1")}

    assert run(cells, tmp_path, *options, "--max-epochs", "1", "--no-figures") == 0
    assert "Nothing to train. 2 finished before" in capsys.readouterr().err


def test_embeddings_are_drawn(tmp_path):
    import numpy as np

    from scgenemamba.cli._benchmark_figures import _own_figures, draw_embeddings
    from scgenemamba.metrics import BenchmarkResult

    adata = make_adata(n_cells=60)
    arrays = {"PCA": np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32), "row": np.arange(60).astype(str)}
    arrays |= {"batch": adata.obs["batch"].astype(str), "label": adata.obs["cell_type"].astype(str)}
    rows = pd.DataFrame({"method": ["PCA", "random weights"], "control": [False, True]})
    result = BenchmarkResult(rows, pd.DataFrame(), pd.DataFrame(), {})
    with _own_figures() as save:
        assert draw_embeddings(arrays, result, "")
        assert save(tmp_path / "embeddings.png").stat().st_size > 10_000
        assert not draw_embeddings(arrays, result, " (labels)")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch", "donor"], "'donor' not found in adata.obs"),
        (["--methods", "gpt"], "Unknown method 'gpt'; choose from PCA"),
        (["--layer", "counts"], "'counts' not found in adata.layers"),
        (["--seeds", "0"], "at least 1"),
    ],
)
def test_errors_are_one_line(cells, tmp_path, capsys, options, message):
    assert run(cells, tmp_path, *options) == 1
    printed = capsys.readouterr()
    assert message in printed.err and "Traceback" not in printed.err


def test_a_missing_file_is_named(tmp_path, capsys):
    assert run(tmp_path / "none.h5ad", tmp_path) == 1
    assert "No file" in capsys.readouterr().err


def test_help_names_the_tasks_and_splits_of_the_metrics(capsys):
    from scgenemamba.cli._benchmark_arguments import _SPLITS, _TASKS
    from scgenemamba.metrics._splits import SPLITS
    from scgenemamba.metrics._validate import TASKS

    assert (_SPLITS, _TASKS) == (SPLITS, TASKS)
    with pytest.raises(SystemExit, match="0"):
        main(["benchmark", "--help"])
    assert "--no-figures" in capsys.readouterr().out
