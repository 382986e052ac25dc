"""Shared fixtures: small data made on the spot, and the real data where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp


def data_folder() -> Path:
    """Folder of the real data sets."""
    return Path(os.environ.get("SCGENEMAMBA_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture
def real_data():
    """Path of a real data set; skips where it is missing."""

    def path(name: str) -> Path:
        file = data_folder() / name
        if not file.exists():
            pytest.skip(f"{name} not found in {data_folder()}; set SCGENEMAMBA_DATA")
        return file

    return path


def simulate_counts(n_cells: int, n_genes: int, n_types: int, n_batches: int, seed: int = 0):
    """Counts of cell types with marker genes, in batches of different capture: matrix, types, batches."""
    rng = np.random.default_rng(seed)
    types = rng.integers(n_types, size=n_cells)
    batches = rng.integers(n_batches, size=n_cells)
    rates = rng.gamma(0.6, 1.0, size=(1, n_genes)) * np.ones((n_types, 1))
    markers = max(n_genes // (2 * n_types), 1)
    for t in range(n_types):
        rates[t, t * markers : (t + 1) * markers] *= 8
    capture = rng.lognormal(0, 0.4, size=(n_batches, n_genes))
    depth = rng.lognormal(0, 0.2, size=(n_cells, 1))
    counts = rng.poisson(rates[types] * capture[batches] * depth).astype(np.float32)
    counts[:, 0] += 1  # no cell is empty
    return counts, types, batches


def make_adata(n_cells: int = 120, n_genes: int = 60, n_types: int = 3, n_batches: int = 2, seed: int = 0):
    """AnnData of simulated counts (CSR) with ``batch`` and ``cell_type``."""
    from anndata import AnnData

    counts, types, batches = simulate_counts(n_cells, n_genes, n_types, n_batches, seed)
    obs = pd.DataFrame(
        {
            "batch": pd.Categorical([f"batch{b}" for b in batches]),
            "cell_type": pd.Categorical([f"type{t}" for t in types]),
        },
        index=[f"cell{i}" for i in range(n_cells)],
    )
    # names are not in alphabetical order, so column order and token order differ
    var = pd.DataFrame(index=[f"GENE{(7 * i) % n_genes if n_genes % 7 else i}" for i in range(n_genes)])
    return AnnData(sp.csr_matrix(counts), obs=obs, var=var)


@pytest.fixture
def adata():
    """Fresh simulated AnnData."""
    return make_adata()


@pytest.fixture
def messages():
    """Texts that the package logs; scvi-tools' logger hands nothing on to pytest's."""
    import logging

    from scgenemamba._logging import logger

    class Handler(logging.Handler):
        def emit(self, record):
            texts.append(record.getMessage())

    texts: list[str] = []
    handler = Handler()
    logger.addHandler(handler)
    yield texts
    logger.removeHandler(handler)


@pytest.fixture(autouse=True)
def _seed():
    """Same random numbers for every test, whatever ran before."""
    import sys

    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def cell_files(tmp_path):
    """Two files of 320 cells of three types, with different genes."""
    import anndata as ad

    found = []
    for name, genes, seed in (("a", range(40), 0), ("b", range(59, 19, -1), 1)):
        generator = np.random.default_rng(seed)
        rates = generator.lognormal(0, 1, size=(3, len(genes)))
        counts = generator.poisson(rates[generator.integers(3, size=320)])
        adata = ad.AnnData(sp.csr_matrix(counts.astype(np.float32)))
        adata.var_names = [f"GENE{i}" for i in genes]
        adata.obs_names = [f"{name}{i}" for i in range(320)]
        found.append(tmp_path / f"{name}.h5ad")
        adata.write_h5ad(found[-1])
    return found
