"""Models that annotate other people's cells: trained on labelled studies, calibrated across them, with a card."""

from importlib import import_module
from typing import TYPE_CHECKING

from ._config import CardConfig, CellsConfig, FitConfig, ReferenceConfig, SizeConfig

if TYPE_CHECKING:
    from ._build import build_reference, judge_study

__all__ = [
    "CardConfig",
    "CellsConfig",
    "FitConfig",
    "ReferenceConfig",
    "SizeConfig",
    "build_reference",
    "judge_study",
]


def __getattr__(name: str) -> object:
    # a wrong configuration is named before scvi-tools is loaded, which takes seconds
    if name in ("build_reference", "judge_study"):
        return getattr(import_module(f"{__name__}._build"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
