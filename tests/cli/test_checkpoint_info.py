"""What is in a checkpoint, from the shell."""

from __future__ import annotations

import json

import pytest
import torch

from scgenemamba.cli import main

from .checkpoints import change_tensors, human_cells, make_published, tutorial_maker


@pytest.fixture
def published(tmp_path):
    return make_published(tmp_path / "published")


@pytest.fixture
def ours(tmp_path):
    from scgenemamba import GeneMambaModel

    adata = human_cells()
    GeneMambaModel.setup_anndata(adata, labels_key="cell_type")
    model = GeneMambaModel(adata, preset="tiny")
    model.train(max_epochs=1)
    model.save_pretrained(tmp_path / "ours")
    return tmp_path / "ours"


def info(capsys, folder, *options):
    """Value of each row, and the differences."""
    assert main(["info", str(folder), *options]) == 0
    rows, _, differences = capsys.readouterr().out.partition("\n\nDifferences from expectation\n")
    lines = [line.strip().partition("  ") for line in rows.splitlines()[1:]]
    found = [line.removeprefix("  - ") for line in differences.splitlines()]
    return {name: value.strip() for name, _, value in lines}, [] if found == ["  none"] else found


def failure(capsys, folder):
    assert main(["info", str(folder)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1
    return lines[0].removeprefix("scgenemamba: ")


def test_published(published, capsys):
    rows, differences = info(capsys, published)
    assert rows["format"] == "published GeneMamba"
    assert rows["files"].startswith("model.safetensors (2.9 MB)")
    assert rows["key prefix"] == "none"
    assert rows["layers x width"] == "2 x 64, state 64, 2 heads"
    assert rows["fusion"] == "mean (no aggregator)"
    assert rows["mixers"] == "trained"
    assert rows["head"] == "over the vocabulary"
    assert rows["[CLS]"] == "has no row"
    assert rows["classes"] == "no classifier"
    assert rows["genes"].startswith("5,000: ENSG00000000003, ")
    assert rows["rank factors"] == "none in the checkpoint"
    n_parameters = sum(t.numel() for t in tutorial_maker().tensors(5_002, 0).values())
    assert rows["parameters"] == f"{n_parameters:,} in encoder and head"
    assert differences == [
        "5,002 rows of the embedding table instead of 25,426",
        "2 layers x 64 is none of the published sizes",
    ]


def test_the_tutorials_checkpoint_covers_the_tutorials_cells(published):
    scanpy = pytest.importorskip("scanpy")
    from scgenemamba.tokens import map_genes, read_tokenizer_json

    vocabulary = read_tokenizer_json(published / "tokenizer.json")
    assert len(vocabulary) == 5_000
    assert list(vocabulary.genes) == sorted(vocabulary.genes)
    names = scanpy.datasets.pbmc68k_reduced().raw.var_names
    found = map_genes(names, vocabulary)
    assert (found.token_ids >= 0).mean() > 0.97
    assert {"symbol", "previous symbol", "unknown"} <= set(found.rules)


def test_the_script_is_a_command(tmp_path, capsys, monkeypatch):
    import runpy
    import sys

    path = tutorial_maker().__file__
    monkeypatch.setattr(sys, "argv", [path, str(tmp_path / "made")])
    runpy.run_path(path, run_name="__main__")
    assert info(capsys, tmp_path / "made")[0]["genes"].startswith("5,000")
    monkeypatch.setattr(sys, "argv", [path])
    with pytest.raises(SystemExit, match="Usage"):
        runpy.run_path(path, run_name="__main__")


def test_key_prefix(published, capsys):
    change_tensors(published, lambda tensors: {f"module.{name}": value for name, value in tensors.items()})
    assert info(capsys, published)[0]["key prefix"] == "module."


def test_never_trained(published, capsys):
    ends = (".mamba.D", ".mamba.norm.weight")
    change_tensors(
        published,
        lambda tensors: {name: torch.ones_like(t) if name.endswith(ends) else t for name, t in tensors.items()},
    )
    rows, differences = info(capsys, published)
    assert rows["mixers"] == "never trained: all D and norm weights are exactly 1"
    assert any("never received a gradient" in line for line in differences)


@pytest.mark.parametrize(
    ("mode", "fusion"),
    [
        (None, "gate (as the paper and the launch script have it; 'concat' has the same tensors)"),
        ("concat", "concat (said by config.json)"),
    ],
)
def test_an_aggregator_is_gate_unless_config_says_concat(published, capsys, mode, fusion):
    aggregator = {"mamba_mixer.aggr.weight": torch.zeros(64, 128), "mamba_mixer.aggr.bias": torch.zeros(64)}
    change_tensors(published, lambda tensors: tensors | aggregator)
    if mode:
        settings = json.loads((published / "config.json").read_text())
        (published / "config.json").write_text(json.dumps(settings | {"mode": mode}))
    assert info(capsys, published)[0]["fusion"] == fusion


def test_differences_are_listed(published, capsys):
    change_tensors(published, lambda tensors: tensors | {"pathway.weight": torch.zeros(3)})
    settings = json.loads((published / "config.json").read_text())
    (published / "config.json").write_text(json.dumps(settings | {"d_model": 512, "mode": "gate"}))
    _, differences = info(capsys, published)
    assert "config.json says d_model 512, the tensors 64" in differences
    assert "config.json says mode 'gate', but the file has no aggregator" in differences
    assert "tensor not used: pathway.weight" in differences


def test_parameters_are_compared_with_those_of_the_published_sizes(published, capsys, monkeypatch):
    monkeypatch.setattr("scgenemamba.cli._checkpoint_info._PUBLISHED", {(2, 64): 7})
    monkeypatch.setattr("scgenemamba.cli._checkpoint_info._PUBLISHED_TOKENS", 5_002)
    rows, differences = info(capsys, published)
    n_parameters = rows["parameters"].split()[0]
    assert differences == [f"{n_parameters} parameters instead of 7"]
    n = int(n_parameters.replace(",", ""))
    monkeypatch.setattr("scgenemamba.cli._checkpoint_info._PUBLISHED", {(2, 64): n})
    assert info(capsys, published)[1] == []


def test_subfolder(published, capsys):
    rows, _ = info(capsys, published.parent, "--subfolder", "published")
    assert rows["format"] == "published GeneMamba"


def test_ours(ours, capsys):
    rows, differences = info(capsys, ours)
    assert rows["format"] == "scgenemamba"
    assert rows["layers x width"].startswith("2 x 64")
    assert rows["mixers"] == "trained"
    assert rows["classes"] == "3: type0, type1, type2"
    assert rows["rank factors"] == "estimated from 40 cells of the training data"
    assert rows["fusion"].startswith("mean")
    assert differences == []


def test_ours_from_published_weights(published, tmp_path, capsys):
    from scgenemamba import GeneMambaModel

    GeneMambaModel.from_pretrained(published).save_pretrained(tmp_path / "again")
    rows, differences = info(capsys, tmp_path / "again")
    assert rows["format"] == "scgenemamba"
    assert rows["genes"].startswith("5,000")
    assert rows["head"] == "over the vocabulary"
    assert rows["classes"] == "no classifier"
    assert differences == []


def test_a_missing_one(tmp_path, capsys):
    assert "neither a folder nor a repository" in failure(capsys, tmp_path / "nothing")
    assert "holds no model.safetensors" in failure(capsys, tmp_path)


def test_pickled_weights_are_not_read(tmp_path, capsys):
    torch.save({}, tmp_path / "pytorch_model.bin")
    assert "pickled weights only" in failure(capsys, tmp_path)


def test_broken_weights(published, capsys):
    weights = published / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert "model.safetensors" in failure(capsys, published)
    weights.write_bytes(b"abc")
    assert "cut off" in failure(capsys, published)


def test_missing_tensor(published, capsys):
    change_tensors(published, lambda tensors: {k: v for k, v in tensors.items() if not k.endswith("1.mamba.D")})
    assert "mamba_mixer.layers.1.mamba.D" in failure(capsys, published)


def test_nan(published, capsys):
    change_tensors(published, lambda tensors: {k: v * float("nan") for k, v in tensors.items()})
    assert "NaN" in failure(capsys, published)


def test_broken_json(published, ours, capsys):
    (published / "tokenizer.json").write_text("{")
    assert "tokenizer.json" in failure(capsys, published)
    (published / "tokenizer.json").unlink()
    assert "no tokenizer.json" in failure(capsys, published)
    settings = json.loads((ours / "config.json").read_text())
    (ours / "config.json").write_text(json.dumps({**settings, "architecture": {"d_model": 64}}))
    failure(capsys, ours)
    (ours / "config.json").write_text(json.dumps({**settings, "format_version": 2}))
    assert "update scgenemamba" in failure(capsys, ours)
    (ours / "config.json").write_text(json.dumps({k: v for k, v in settings.items() if k != "registry"}))
    assert "registry" in failure(capsys, ours)
