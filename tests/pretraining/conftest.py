"""Files of cells, and configurations of short pretrainings."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import yaml


@pytest.fixture
def cells(tmp_path):
    """Two files with different genes and three types of cells."""
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


@pytest.fixture
def config(cells, tmp_path):
    """Writes a configuration; sections replace those of a short run."""

    def write(out="run", **sections):
        values = {
            "out": str(tmp_path / out),
            "data": {"files": [str(path) for path in cells], "batch_size": 32, "held_out": 0.1},
            "model": {"preset": "tiny", "n_layers": 1, "max_tokens": 40},
            "training": {"max_epochs": 2, "accelerator": "cpu", "devices": 1},
            "output": {"checkpoint_every_n_steps": 3, "log_every_n_steps": 2, "progress_bar": False},
        }
        for name, section in sections.items():
            values[name] = {**values.get(name, {}), **section} if isinstance(section, dict) else section
        path = tmp_path / f"{out}.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write
