"""What the tests of the commands run on: a tiny published checkpoint, a small model of ours, and files of cells."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

from tests.conftest import make_adata

GENES = """
    ACTB AIF1 CCL5 CCR7 CD2 CD19 CD33 CD52 CD27 CD37 CD3D CD3E CD3G CD4 CD68 CD7 CD74 CD79A CD79B CD8A CD8B CST3 CST7 CTSW
    FCER1A FCER1G FCGR3A FOS FTL GNLY GZMA GZMB GZMH GZMK HLA-DRA IL32 IL7R JUN KLRB1 LGALS2 LGALS3 LST1 LTB
    LYZ MS4A1 NKG7 PRF1 S100A10 S100A6 S100A4 S100A8 S100A9 SPI1 TYROBP VIM
""".split()


@cache
def tutorial_maker() -> Any:
    """The tutorials' script as a module."""
    path = Path(__file__).parents[2] / "tutorials" / "make_tiny_checkpoint.py"
    spec = importlib.util.spec_from_file_location("make_tiny_checkpoint", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_published(folder: Path) -> Path:
    """A checkpoint in the published layout, of about 5,000 human genes."""
    tutorial_maker().make_checkpoint(folder)
    return folder


def change_tensors(folder: Path, change: Any) -> None:
    """Write the weights of a checkpoint again, changed."""
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors), folder / "model.safetensors", metadata={"format": "pt"})


def human_cells(n_cells: int = 40, seed: int = 0) -> Any:
    """Simulated cells with real gene symbols, and something in every slot that a result must keep."""
    adata = make_adata(n_cells=n_cells, n_genes=len(GENES), seed=seed)
    adata.var_names = GENES
    adata.obs["note"] = [f"note {i}" for i in range(n_cells)]
    adata.obsm["X_pca"] = np.ones((n_cells, 2), dtype=np.float32)
    adata.uns["title"] = "cells"
    adata.layers["counts"] = adata.X.copy()
    return adata


def write(adata: Any, path: Path) -> Path:
    """Write cells as the name asks for."""
    (adata.write_zarr if path.suffix == ".zarr" else adata.write_h5ad)(path)
    return path
