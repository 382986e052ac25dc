"""GeneMamba for AnnData: a bidirectional Mamba-2 foundation model over rank-ordered genes."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import cli, metrics, model, nn, pl, pretraining, reference, tl, tokens, train
    from .model import GeneMambaModel

__all__ = [
    "GeneMambaModel",
    "__version__",
    "cli",
    "metrics",
    "model",
    "nn",
    "pl",
    "pretraining",
    "reference",
    "tl",
    "tokens",
    "train",
]

_SUBMODULES = frozenset({"cli", "metrics", "model", "nn", "pl", "pretraining", "reference", "tl", "tokens", "train"})

try:
    __version__ = version("scgenemamba")
except PackageNotFoundError:  # a source tree on the path that was never installed
    __version__ = "0.0.0"


def __getattr__(name: str) -> object:
    # Loading scvi-tools takes seconds, so nothing heavy is imported before it is asked for.
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    if name == "GeneMambaModel":
        return import_module(f"{__name__}.model").GeneMambaModel
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
