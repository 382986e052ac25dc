"""The command, its configuration and what it writes."""

from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pytest
import torch

from scgenemamba import GeneMambaModel
from scgenemamba.cli import main
from scgenemamba.pretraining import DataConfig, ModelConfig, OutputConfig, PretrainConfig, TrainingConfig, pretrain

pytest.importorskip("boost_histogram")
pytest.importorskip("jsonargparse")


def run(path, *options):
    return main(["pretrain", "--config", str(path), *map(str, options)])


def test_from_files_to_a_normal_model(config, cells, tmp_path, capsys):
    sets = tmp_path / "sets.gmt"
    sets.write_text("one\t\tGENE1\tGENE2\tGENE3\ntwo\t\tGENE30\tGENE31\n")
    path = config(
        data={"validation": {"again": [str(cells[0])]}},
        objective={"gene_sets": [str(sets)]},
        training={"ema_decay": 0.9, "validate_every_n_steps": 8, "accumulate_grad_batches": 2},
        output={"tensorboard": True},
    )
    assert run(path, "--training.weight_decay", 0.02) == 0
    told = capsys.readouterr().out
    # all values are told, also those that were not given
    assert "weight_decay: 0.02" in told
    assert "warmup_fraction: 0.05" in told
    out = tmp_path / "run"
    report = json.loads((out / "report.json").read_text())
    # eighteen batches an epoch, two for a step
    assert report["steps"] == 18
    assert report["n_cells"] == 576
    assert report["losses"].keys() == {"held_out", "again"}
    for losses in report["losses"].values():
        assert losses.keys() == {"loss", "masked_genes", "unigram", "mean_rank"}
        assert all(0 < value < 6 for value in losses.values())
        # the whole loss has the pathway term in it
        assert losses["loss"] > losses["masked_genes"]
    assert (out / "loss.png").stat().st_size > 10_000
    assert list((out / "tensorboard").rglob("events.out.tfevents*"))
    assert {path.name for path in (out / "checkpoints").iterdir()} == {
        "best.ckpt",
        *(f"step={i}.ckpt" for i in (12, 15, 18)),
    }
    adata = ad.read_h5ad(cells[0])
    states = GeneMambaModel.from_pretrained(out / "model").get_latent_representation(adata)
    assert states.shape == (320, 128)
    # its own configuration makes the same run
    (out / "config.yaml").rename(tmp_path / "again.yaml")
    assert run(tmp_path / "again.yaml", "--out", tmp_path / "second") == 0
    again = GeneMambaModel.from_pretrained(tmp_path / "second" / "model").get_latent_representation(adata)
    np.testing.assert_array_equal(again, states)


def test_the_same_from_python(cells, tmp_path):
    config = PretrainConfig(
        out=str(tmp_path / "python"),
        data=DataConfig([str(tmp_path / "*.h5ad")], batch_size=64, held_out=0.1),
        model=ModelConfig(preset="tiny", n_layers=1),
        training=TrainingConfig(max_epochs=1, accelerator="cpu"),
        output=OutputConfig(log_every_n_steps=2, progress_bar=False),
    )
    model = pretrain(config)
    assert model.history["masked_genes_validation"].shape == (1, 1)
    # a finished run is handed back, and not made again
    written = (tmp_path / "python" / "model" / "model.safetensors").stat().st_mtime_ns
    again = pretrain(config)
    assert (tmp_path / "python" / "model" / "model.safetensors").stat().st_mtime_ns == written
    for name, value in model.module.state_dict().items():
        assert torch.equal(value.cpu(), again.module.state_dict()[name].cpu()), name


def test_a_run_without_held_out_cells_and_shorter_than_its_logs(config, cells, tmp_path):
    path = config(data={"held_out": 0.0, "validation": {"again": [str(cells[0])]}}, output={"log_every_n_steps": 1000})
    assert run(path, "--training.max_epochs", 1) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["steps"] == 20
    assert report["losses"].keys() == {"again"}
    # cells of at most 40 genes
    assert 0 < report["tokens"] <= 640 * 40
    assert not (tmp_path / "run" / "loss.png").exists()


def test_going_on_from_pretrained_weights_keeps_their_genes(config, cells, tmp_path):
    assert run(config("first", data={"files": [str(cells[0])]}), "--training.max_epochs", 1) == 0
    start = tmp_path / "first" / "model"
    second = config("second", data={"files": [str(cells[1])]}, model={"start_from": str(start)})
    assert run(second, "--training.max_epochs", 1) == 0
    before, after = GeneMambaModel.from_pretrained(start), GeneMambaModel.from_pretrained(tmp_path / "second" / "model")
    assert before.vocabulary.genes.tolist() == after.vocabulary.genes.tolist() == sorted(f"GENE{i}" for i in range(40))
    one, two = (m.module.network.encoder.state_dict() for m in (before, after))
    assert not torch.equal(one["embeddings.weight"], two["embeddings.weight"])


def test_weights_that_cannot_be_gone_on_from_are_named(config, cells, tmp_path, capsys):
    adata = ad.read_h5ad(cells[0])
    GeneMambaModel.setup_anndata(adata)
    model = GeneMambaModel(adata, preset="tiny", n_layers=1, max_tokens=40)
    model.save_pretrained(tmp_path / "decoder")
    path = config(model={"start_from": str(tmp_path / "decoder")})
    assert run(path) == 1
    assert "also learnt counts, which needs an AnnData" in capsys.readouterr().err
    assert run(config("first"), "--training.max_epochs", 1) == 0
    path = config("second", model={"start_from": str(tmp_path / "first" / "model")})
    assert run(path, "--objective.language", "next_token") == 1
    assert "learnt masked_genes, the configuration asks for objective.language: next_token" in capsys.readouterr().err


def test_a_dry_run_tells_and_trains_nothing(config, tmp_path, capsys):
    assert run(config(), "--dry-run") == 0
    told = capsys.readouterr().out
    for part in (
        "576 cells in 2 files, 60 genes",
        "parameters",
        "GB for a step",
        "GB for checkpoints",
        "36 steps",
        "cells/s",
    ):
        assert part in told
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"data"}


def test_wrong_settings_are_named(config, capsys):
    for options, told in (
        (("--training.lr", "fast"), 'Parser key "training.lr"'),
        (("--training.speed", "3"), "unrecognized arguments: --training.speed"),
        (("--objective.language", "bert"), "objective.language"),
        (("--resume", "maybe"), "resume"),
    ):
        with pytest.raises(SystemExit) as ended:
            run(config(), *options)
        assert ended.value.code == 2
        assert told in capsys.readouterr().err


def test_what_cannot_work_is_told_before_it_starts(config, tmp_path, capsys, monkeypatch):
    assert run(config(data={"files": [str(tmp_path / "no*.h5ad")]})) == 1
    assert "No file matches" in capsys.readouterr().err
    assert run(config(), "--training.max_epochs", 1) == 0
    assert run(config(), "--resume", "never") == 1
    assert "holds the results of another run" in capsys.readouterr().err
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("scgenemamba.pretraining._files.shutil.disk_usage", lambda path: usage)
    assert run(config("other")) == 1
    assert "0.0 GB are free" in capsys.readouterr().err


def test_a_loss_that_is_no_number_stops_and_leaves_the_batch(config, tmp_path, capsys, monkeypatch):
    from scgenemamba.train import MaskedGenes

    loss = MaskedGenes.loss
    calls = iter(range(1000))

    def broken(self, batch, encoded):
        return {"masked_genes": loss(self, batch, encoded)["masked_genes"] * (torch.nan if next(calls) == 7 else 1.0)}

    monkeypatch.setattr(MaskedGenes, "loss", broken)
    assert run(config()) == 1
    assert "The loss is nan at step 7" in capsys.readouterr().err
    kept = torch.load(tmp_path / "run" / "non_finite_step=7_rank=0.pt")
    assert kept["step"] == 7
    assert kept["batch"].keys() == {"tokens", "cu_seqlens", "cell"}
    assert all(bool(value.isfinite().all()) for value in kept["state_dict"].values() if value.is_floating_point())
    # and goes on from the checkpoint before
    monkeypatch.setattr(MaskedGenes, "loss", loss)
    assert run(config()) == 0


def test_other_batches_do_not_go_on_with_a_position(config, capsys, monkeypatch):
    from scgenemamba.train import MaskedGenes

    loss = MaskedGenes.loss
    calls = iter(range(1000))

    def broken(*arguments):
        if next(calls) == 9:
            raise InterruptedError
        return loss(*arguments)

    monkeypatch.setattr(MaskedGenes, "loss", broken)
    assert run(config()) == 1
    monkeypatch.setattr(MaskedGenes, "loss", loss)
    assert run(config(data={"batch_size": 16})) == 1
    assert "The checkpoint was written with batch_size=32, now it is 16" in capsys.readouterr().err
