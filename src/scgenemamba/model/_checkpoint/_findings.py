"""What a user is told about a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scgenemamba._logging import logger

from ._contents import Checkpoint

_DEFAULTS = {"fusion": None, "pooling": ("mean",), "flip": "masked", "rank_mode": "median"}
_MOST_NAMES = 5


def refuse_changes(checkpoint: Checkpoint, asked: Mapping[str, Any]) -> None:
    """Refuse arguments that a checkpoint of ours contradicts: it says all about itself.

    Raises
    ------
    ValueError
        If an argument is neither its default nor what was saved.
    """
    config = checkpoint.config
    holds: dict[str, Any] = {name: getattr(config, name) for name in ("fusion", "pooling", "flip", "max_tokens")}
    holds["rank_mode"] = checkpoint.preprocessing.rank_mode
    for name, value in asked.items():
        if value != _DEFAULTS.get(name) and value != holds.get(name):
            msg = f"{name}={value!r} does not fit the checkpoint, which was saved with {holds.get(name, 'its own')!r}: leave it out."
            raise ValueError(msg)


def worries(checkpoint: Checkpoint) -> list[str]:
    """Say what a published checkpoint is; returns what a user should be warned of."""
    config, report = checkpoint.config, checkpoint.report
    logger.info(
        f"Published GeneMamba, {config.n_layers} layers x {config.d_model}, {config.n_tokens} tokens, "
        f"{report.n_bytes / 1e6:.0f} MB, fusion {config.fusion!r} ({report.fusion_reason})."
    )
    found = []
    if not checkpoint.mixers_trained:
        found.append(
            "The mixers were never trained: all D and norm weights are exactly 1, as when the public code returns its input "
            "unchanged. Hidden states are those of random layers."
        )
    if report.disagreements:
        found.append(f"The tensors are believed where they disagree: {'; '.join(report.disagreements)}.")
    if report.unused:
        some = ", ".join(report.unused[:_MOST_NAMES]) + (", ..." if len(report.unused) > _MOST_NAMES else "")
        found.append(f"{len(report.unused)} tensors of the checkpoint are not used: {some}.")
    if checkpoint.classes and not config.use_cls:
        found.append("The checkpoint has a classifier, which reads [CLS]: it is used with pooling='cls'.")
    return found
