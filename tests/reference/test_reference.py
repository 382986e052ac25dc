"""Reference models from files to a card, on simulated studies."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open

from scgenemamba import GeneMambaModel
from scgenemamba.cli import main
from scgenemamba.reference import CardConfig, CellsConfig, FitConfig, ReferenceConfig, SizeConfig, build_reference
from scgenemamba.reference._cells import BACKGROUND, LABEL, NO_LABEL, STUDY, read_cells
from tests.conftest import make_adata

SIZE = SizeConfig(n_layers=1, d_model=32, max_tokens=32, n_latent=8, n_decoder_genes=30)
FIT = FitConfig(pretrain_epochs=1, max_epochs=2, accelerator="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two labelled studies in one file, one without labels, and other cells."""
    folder = tmp_path_factory.mktemp("files")
    labelled = make_adata(n_cells=160, seed=0)
    labelled.obs["cell_type"] = labelled.obs["cell_type"].astype(str)
    labelled.obs.iloc[:5, labelled.obs.columns.get_loc("cell_type")] = "?"
    labelled.write_h5ad(folder / "labelled.h5ad")
    other = make_adata(n_cells=80, n_batches=1, seed=0)
    del other.obs["cell_type"]
    other.obs["batch"] = "other"
    other.write_h5ad(folder / "other.h5ad")
    foreign = make_adata(n_cells=40, n_batches=1, seed=5)
    foreign.obs["batch"] = "foreign"
    foreign.write_h5ad(folder / "foreign.h5ad")
    return folder


def cells_of(folder, **changes):
    files = [str(folder / "labelled.h5ad"), str(folder / "other.h5ad")]
    given = {"files": files, "labels_key": "cell_type", "batch_key": "batch", "unlabeled_category": "?", "min_cells": 3}
    return CellsConfig(**{**given, "background": [str(folder / "foreign.h5ad")], **changes})


@pytest.fixture(scope="module")
def built(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    card = CardConfig(
        "For tests.", ["Simulated, nobody, no licence."], "cc0-1.0", "make", {"type0": "CL:0"}, ["Knows nothing."]
    )
    config = ReferenceConfig(str(out), cells_of(folder), SIZE, FIT, card)
    return out, build_reference(config), config


def test_cells_of_all_files(folder):
    cells = read_cells(cells_of(folder))
    assert cells.n_obs == 280
    assert set(cells.obs[STUDY]) == {"batch0", "batch1", "other", "foreign"}
    assert (cells.obs[LABEL] == NO_LABEL).sum() == 5 + 80 + 40
    assert cells.obs[BACKGROUND].sum() == 40
    assert (cells.X.getnnz(axis=0) >= 3).all()


def test_the_folder_holds_the_model_in_half_precision(built, folder):
    out, model, _ = built
    with safe_open(out / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}
        assert not [name for name in file.keys() if "px_r" in name]
    query = make_adata(n_cells=30, seed=3)
    again = GeneMambaModel.from_pretrained(out)
    # weights were rounded before, the annotation is rounded when it is written
    assert np.array_equal(again.get_latent_representation(query), model.get_latent_representation(query))
    one, other = (some.predict(query, soft=True).to_numpy() for some in (model, again))
    assert np.abs(one - other).max() < 5e-3
    assert again.predict_sets(query).shape == (30, 3)
    assert np.isfinite(again.novelty_score(query)).all()
    assert again.ontology_ids_ == {"type0": "CL:0"}


def test_the_card_says_what_was_measured(built):
    out, _, _ = built
    card = (out / "README.md").read_text()
    for text in ("type0 (CL:0)", "Simulated, nobody", "cc0-1.0", "Knows nothing.", "foreign (background)", "`make`"):
        assert text in card
    for study in ("batch0", "batch1"):
        found = json.loads((out / "quality" / f"{study}.json").read_text())
        assert f"| {study} | {found['accuracy']:.3f} | {found['macro_f1']:.3f} |" in card
        assert 0 <= found["coverage"] <= 1
        assert set(found["labels"]) <= {"type0", "type1", "type2"}
        assert len(found["baselines"]) == 2


def test_what_was_measured_is_not_measured_again(built, monkeypatch):
    out, _, config = built
    monkeypatch.setattr("scgenemamba.reference._build.judge", None)
    from scgenemamba.reference import judge_study

    assert judge_study(config, "batch1") == json.loads((out / "quality" / "batch1.json").read_text())


def test_the_command_reads_a_file(folder, tmp_path):
    config = {
        "out": str(tmp_path / "model"),
        "cells": {
            "files": [str(folder / "labelled.h5ad")],
            "labels_key": "cell_type",
            "batch_key": "batch",
            "min_cells": 3,
        },
        "model": {"n_layers": 1, "d_model": 32, "max_tokens": 32, "n_latent": 8, "n_decoder_genes": 30},
        "training": {"pretrain_epochs": 1, "max_epochs": 1, "accelerator": "cpu"},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    command = ["reference", "--config", str(tmp_path / "config.yaml"), "--training.evaluate", "false"]
    assert main(command) == 0
    assert len(GeneMambaModel.from_pretrained(tmp_path / "model").labels) == 4
    assert not (tmp_path / "model" / "quality").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": ["nowhere/*.h5ad"]}, "No file matches 'nowhere"),
        ({"labels_key": "typo"}, "No cell has a label in the column 'typo'"),
        ({"batch_key": "typo"}, "no 'typo' in obs"),
        ({"gene_key": "typo"}, "no 'typo' in var"),
        ({"layer": "typo"}, "no 'typo' in layers"),
    ],
)
def test_bad_settings_are_named(folder, changes, message):
    with pytest.raises((FileNotFoundError, KeyError, ValueError), match=message):
        read_cells(cells_of(folder, **changes))


def test_terms_of_unknown_labels_are_refused(folder, tmp_path):
    config = ReferenceConfig(str(tmp_path), cells_of(folder), SIZE, FIT, CardConfig(ontology_ids={"typo": "CL:1"}))
    with pytest.raises(ValueError, match=r"ontology_ids names \['typo'\]"):
        build_reference(config)


def test_a_study_without_labels_cannot_judge(built):
    from scgenemamba.reference import judge_study

    with pytest.raises(ValueError, match="no study 'other' with labels"):
        judge_study(built[2], "other")
