"""Sizes of model, from a laptop to the paper's."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

#: Architecture of each preset: layers x width, and genes read per cell.
PRESETS: MappingProxyType[str, dict[str, Any]] = MappingProxyType(
    {
        "tiny": {"n_layers": 2, "d_model": 64, "max_tokens": 256},
        "small": {"n_layers": 2, "d_model": 128, "max_tokens": 256},
        "medium": {"n_layers": 4, "d_model": 256, "max_tokens": 512},
        "large": {"n_layers": 24, "d_model": 512, "max_tokens": 2048},
    }
)
# found on presets tiny and small
_LEARNING_RATE, _LEARNING_RATE_UP_TO = 3e-3, 128


def resolve_preset(preset: str, **given: Any) -> dict[str, Any]:
    """Values of a preset, replaced by those given explicitly (not ``None``).

    Raises
    ------
    ValueError
        If there is no such preset.
    """
    if preset not in PRESETS:
        msg = f"Unknown preset {preset!r}; choose one of {list(PRESETS)}."
        raise ValueError(msg)
    return {**PRESETS[preset], **{key: value for key, value in given.items() if value is not None}}


def default_learning_rate(d_model: int) -> float:
    """Highest learning rate of a new model: wide ones need smaller steps."""
    return _LEARNING_RATE * min(1.0, _LEARNING_RATE_UP_TO / d_model)
