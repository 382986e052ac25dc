"""The model of human blood that comes with the package, on cells that come with scanpy; nothing is fetched."""

from __future__ import annotations

import socket
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scanpy as sc

import scgenemamba
from scgenemamba import GeneMambaModel, tl
from scgenemamba.cli import main

FOLDER = Path(scgenemamba.__file__).parent / "pretrained" / "pbmc-small"
MARKERS = {"B cell": "CD79A", "NK cell": "GNLY", "CD8 T cell": "CD8A", "FCGR3A+ monocyte": "FCGR3A"}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def blood():
    """700 cells of another donor, 765 genes, log-normalised."""
    scanpys = sc.datasets.pbmc68k_reduced()
    cells = scanpys.raw.to_adata()
    cells.obs = scanpys.obs[["bulk_labels"]].copy()
    return cells


@pytest.fixture(scope="module")
def model(blood):
    return GeneMambaModel.from_pretrained("pbmc-small", blood)


def test_the_files_are_small():
    files = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert sum(size for name, size in files.items() if name.endswith(".safetensors")) <= 6e6
    assert sum(files.values()) <= 7e6
    card = (FOLDER / "README.md").read_text()
    assert all(text in card for text in ("CC BY 4.0", "Zheng", "## Limits", "train_pbmc_small.py", "CL:0000236"))


def test_types_show_their_markers(model, blood):
    predicted = model.predict()
    for label, gene in MARKERS.items():
        own = np.asarray(blood[:, gene].X.todense()).ravel()
        assert own[predicted == label].mean() > 4 * own[predicted != label].mean(), label


def test_it_agrees_where_labels_are_beyond_doubt(model, blood):
    given, predicted = blood.obs["bulk_labels"].astype(str).to_numpy(), model.predict()
    for name, label in (("CD19+ B", "B cell"), ("CD56+ NK", "NK cell"), ("CD34+", "CD34+ progenitor")):
        assert (predicted[given == name] == label).mean() > 0.8


def test_all_that_it_promises_works_at_once(model, blood):
    assert model.get_latent_representation().shape == (700, 32)
    probabilities = model.predict(soft=True)
    assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
    assert set(model.ontology_ids_) == set(model.labels) == set(probabilities)
    assert model.predict_sets().shape == (700, 9)
    assert np.isfinite(model.novelty_score()).all()


def test_a_cell_is_annotated_alone(model, blood):
    few = blood[[3, 500]].copy()
    assert np.allclose(model.predict(few, soft=True), model.predict(soft=True).iloc[[3, 500]], atol=1e-5)


def test_annotate_adds_terms(model, blood):
    cells = blood.copy()
    tl.annotate(model, cells)
    terms = cells.obs["genemamba_ontology_term_id"]
    assert set(terms[cells.obs["genemamba"] == "B cell"]) == {"CL:0000236"}
    assert set(terms[cells.obs["genemamba"] == "Unknown"]) == {"unknown"}


def test_the_command_needs_no_arguments(blood, tmp_path, capsys):
    blood[:60].copy().write_h5ad(tmp_path / "my.h5ad")
    assert main(["annotate", str(tmp_path / "my.h5ad"), "--device", "cpu"]) == 0
    found = ad.read_h5ad(tmp_path / "my_annotated.h5ad")
    assert {"genemamba", "genemamba_set", "genemamba_novelty", "genemamba_ontology_term_id"} <= set(found.obs)
    assert "60 cells" in capsys.readouterr().err
    assert main(["annotate", str(tmp_path / "my.h5ad"), str(tmp_path / "other.h5ad")]) == 1
    assert "--out" in capsys.readouterr().err


def test_it_is_fine_tuned(blood):
    cells = blood[::5].copy()
    cells.obs["mine"] = np.where(cells.obs["bulk_labels"].astype(str) == "CD19+ B", "B", "no B")
    GeneMambaModel.setup_anndata(cells, labels_key="mine")
    tuned = GeneMambaModel.from_pretrained("pbmc-small", cells)
    tuned.train(max_epochs=2, accelerator="cpu")
    assert (tuned.predict() == cells.obs["mine"]).mean() > 0.9


def test_cells_are_mapped_onto_it(blood):
    cells = blood[::5].copy()
    cells.obs["study"] = "mine"
    query = GeneMambaModel.load_query_data(cells, "pbmc-small")
    assert query.labels == GeneMambaModel.from_pretrained("pbmc-small").labels
    assert query.get_latent_representation().shape == (140, 32)


def test_unknown_names_are_told_what_there_is():
    with pytest.raises(FileNotFoundError, match="pbmc-small"):
        GeneMambaModel.from_pretrained("pbmc-large")


def test_the_second_act_of_the_demo_says_why_it_disagrees(tmp_path, capsys):
    from scgenemamba.cli._demo_labels import label_demo

    adata = sc.datasets.pbmc68k_reduced()
    label_demo(adata, tmp_path / "labels.png")
    told = capsys.readouterr().out
    line = next(line for line in told.splitlines() if "CD14+ Monocyte" in line and "FCGR3A+ monocyte" in line)
    assert "FCGR3A 3" in line
    assert "pbmc_small_label" in adata.obs
    assert (tmp_path / "labels.png").stat().st_size > 20_000
