"""Files of cells, and configurations of short pretrainings."""

from __future__ import annotations

import pytest
import yaml


@pytest.fixture
def cells(cell_files):
    return cell_files


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
