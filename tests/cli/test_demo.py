"""The command, on a small file of one's own and in its errors."""

from __future__ import annotations

import json
import subprocess
import sys

import anndata as ad
import pytest

from scgenemamba.cli import main
from tests.conftest import make_adata


def test_demo_on_a_file_writes_its_results(tmp_path, capsys):
    make_adata(n_cells=150).write_h5ad(tmp_path / "cells.h5ad")
    out = tmp_path / "out"
    command = ["demo", "--data", str(tmp_path / "cells.h5ad"), "--labels", "cell_type", "--batch", "batch"]
    assert main([*command, "--out", str(out), "--max-epochs", "2", "--seeds", "2"]) == 0
    result = ad.read_h5ad(out / "result.h5ad")
    assert result.obsm["X_genemamba"].shape == (150, 32)
    assert {"split", "predicted", "leiden"} <= set(result.obs)
    assert (out / "figure.png").stat().st_size > 50_000
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["mean"]) == {"scgenemamba", "logistic regression", "PCA + 15 neighbours"}
    assert len(metrics["seeds"]) == 2
    assert "mean of 2 splits" in capsys.readouterr().out


def test_errors_are_one_line(tmp_path, capsys):
    assert main(["demo", "--data", str(tmp_path / "nothing.h5ad"), "--labels", "x"]) == 1
    assert "No file" in capsys.readouterr().err
    make_adata(n_cells=30).write_h5ad(tmp_path / "cells.h5ad")
    assert main(["demo", "--data", str(tmp_path / "cells.h5ad"), "--out", str(tmp_path / "out")]) == 1
    assert "--labels must name a column" in capsys.readouterr().err


def test_unknown_commands_are_refused():
    with pytest.raises(SystemExit):
        main(["nonsense"])


def test_import_is_light():
    code = "import sys, scgenemamba; print(sorted({'torch', 'scvi', 'anndata', 'pandas'} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
