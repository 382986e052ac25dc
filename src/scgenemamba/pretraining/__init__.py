"""Pretraining from a configuration, with checkpoints, validation and a report."""

from importlib import import_module
from typing import TYPE_CHECKING

from ._config import DataConfig, ModelConfig, ObjectiveConfig, OutputConfig, PretrainConfig, TrainingConfig

if TYPE_CHECKING:
    from ._dry_run import DryRun, dry_run
    from ._run import pretrain

__all__ = [
    "DataConfig",
    "DryRun",
    "ModelConfig",
    "ObjectiveConfig",
    "OutputConfig",
    "PretrainConfig",
    "TrainingConfig",
    "dry_run",
    "pretrain",
]

_HEAVY = {"DryRun": "_dry_run", "dry_run": "_dry_run", "pretrain": "_run"}


def __getattr__(name: str) -> object:
    # a wrong configuration is named before scvi-tools is loaded, which takes seconds
    if name in _HEAVY:
        return getattr(import_module(f"{__name__}.{_HEAVY[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
