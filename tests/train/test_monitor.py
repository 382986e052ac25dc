"""What a training tells while it runs."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers.logger import DummyLogger

from scgenemamba.train import TrainingMonitor


class Kept(DummyLogger):
    def __init__(self):
        super().__init__()
        self.told = []

    def log_metrics(self, metrics, step=None):
        if "tokens" in metrics:
            self.told.append((step, metrics))


class Plan(pl.LightningModule):
    """Loss 2, 4, 6, ...; cells of ten tokens, of which six are read."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.module = torch.nn.Module()
        self.module.config = type("Config", (), {"max_tokens": 6})

    def training_step(self, batch, batch_idx):
        return 2.0 * (batch_idx + 1) + self.weight.sum() * 0

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.25)


def run(tmp_path, clock, n_batches=9, **options):
    batches = [{"cu_seqlens": torch.arange(5) * 10} for _ in range(n_batches)]
    logger = Kept()
    trainer = pl.Trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        accelerator="cpu",
        default_root_dir=tmp_path,
        callbacks=[TrainingMonitor(2, [logger], clock)],
        **options,
    )
    trainer.fit(Plan(), torch.utils.data.DataLoader(batches, batch_size=None), [torch.zeros(1)])
    return logger.told


def test_speed_losses_and_tokens(tmp_path):
    ticks = iter(range(1000))
    told = run(tmp_path, lambda: next(ticks))
    assert [step for step, _ in told] == [1, 3, 5, 7]
    # the clock is asked at the beginning and at the end of each window
    for (_, metrics), loss, tokens in zip(told, (3, 7, 11, 15), (48, 96, 144, 192), strict=True):
        assert metrics["train_loss_step"] == loss
        assert metrics["tokens"] == tokens
        assert metrics["lr"] == 0.25
        assert metrics["cells_per_s"] == 8
        assert metrics["tokens_per_s"] == 48
        assert metrics.keys().isdisjoint({"mfu", "data_wait"})


def test_validation_takes_no_time_and_no_tokens_are_forgotten(tmp_path):
    told = run(tmp_path, iter(range(1000)).__next__, n_batches=8, val_check_interval=3)
    # windows begin anew after each validation: after steps 3 and 6
    assert [metrics["tokens"] for _, metrics in told] == pytest.approx([48, 96, 144, 192])
    assert [step for step, _ in told] == [1, 3, 5, 7]


def test_accumulated_batches_make_one_step(tmp_path):
    told = run(tmp_path, iter(range(1000)).__next__, n_batches=8, accumulate_grad_batches=2)
    assert [(step, metrics["tokens"]) for step, metrics in told] == [(1, 96), (3, 192)]
    assert [metrics["train_loss_step"] for _, metrics in told] == [5, 13]
