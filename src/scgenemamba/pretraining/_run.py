"""A pretraining from files to a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from scgenemamba._logging import logger
from scgenemamba.model import GeneMambaModel
from scgenemamba.train import AtomicCheckpointIO, LatestCheckpoints, StopAtNonFinite, TrainingMonitor

from ._baselines import baseline_losses
from ._build import build, training_arguments
from ._files import OutputFolder
from ._report import write_config, write_report

if TYPE_CHECKING:
    from ._config import PretrainConfig


def pretrain(config: PretrainConfig) -> GeneMambaModel:
    """Train a model on files, or go on where an earlier run of the same folder was stopped.

    Every process of a distributed training calls it; Lightning starts them, or torchrun or SLURM does.

    Parameters
    ----------
    config
        What is trained, on what, and how.

    Returns
    -------
    The model, which is also saved to ``model/`` of the output folder.

    Raises
    ------
    FileNotFoundError, ValueError
        Naming the file or the setting that cannot be used.
    OSError
        If the disk has not enough room.
    FloatingPointError
        If a loss is no number; its batch is kept.

    Examples
    --------
    >>> config = PretrainConfig(out="blood", data=DataConfig(files=["atlas/*.h5ad"]))
    >>> model = pretrain(config)
    """
    out = OutputFolder.of(config)
    checkpoint = out.start(config.resume)
    if out.report.exists():
        logger.info(f"{out.path} holds a finished run: {out.model}.")
        return GeneMambaModel.from_pretrained(out.model)
    cells, model = build(config)
    out.check_space(sum(p.numel() for p in model.module.parameters()), config)
    write_config(config, out)
    baselines = baseline_losses(cells, model, out.data / "baselines.json")
    # Lightning takes no ckpt_path that is None for a fresh start of scvi-tools' runner
    start: dict[str, Any] = {} if checkpoint is None else {"ckpt_path": str(checkpoint)}
    if checkpoint is not None:
        logger.info(f"Going on from {checkpoint}.")
    model.train(
        datamodule=cells,
        callbacks=_callbacks(config, out),
        plugins=[AtomicCheckpointIO()],
        **training_arguments(config, cells),
        **start,
    )
    if getattr(rank_zero_only, "rank", 0) == 0:
        model.save_pretrained(out.model)
        write_report(config, out, cells, model, baselines)
    return model


def _callbacks(config: PretrainConfig, out: OutputFolder) -> list[pl.Callback]:
    asked = config.output
    loggers: list[Logger] = [CSVLogger(out.path, name="logs")]
    if asked.tensorboard:
        loggers.append(TensorBoardLogger(out.path, name="tensorboard"))
    best = ModelCheckpoint(
        out.checkpoints,
        filename="best",
        monitor="validation_loss",
        save_weights_only=True,
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )
    # without held-out cells there is no loss to be the best by
    kept = [best] if config.data.held_out else []
    average = [] if config.training.ema_decay is None else [EMAWeightAveraging(decay=config.training.ema_decay)]
    return [
        TrainingMonitor(asked.log_every_n_steps, loggers),
        StopAtNonFinite(out.path),
        *average,
        LatestCheckpoints(out.checkpoints, asked.checkpoint_every_n_steps, asked.keep),
        *kept,
    ]
