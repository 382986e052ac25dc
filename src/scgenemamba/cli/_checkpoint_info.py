"""What is in a checkpoint, without making a model of it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ._info import _table

if TYPE_CHECKING:
    from scgenemamba.model._checkpoint import Checkpoint

# of the published sizes with fusion "mean": parameters
_PUBLISHED = {
    (24, 512): 65_744_338,
    (24, 768): 127_055_122,
    (48, 512): 105_426_514,
    (48, 768): 215_029_522,
}
_PUBLISHED_TOKENS = 25_426
_N_SHOWN = 3


def run_checkpoint_info(
    source: str, *, subfolder: str | None = None, revision: str | None = None, local_files_only: bool = False
) -> None:
    """Print what a checkpoint holds, and where it differs from what the published GeneMamba should be."""
    from scgenemamba.model._checkpoint import fetch, is_native, read_native, read_published

    folder = fetch(source, subfolder=subfolder, revision=revision, local_files_only=local_files_only)
    checkpoint = read_native(folder) if is_native(folder) else read_published(folder)
    lines = [f"Checkpoint {source}", *_table(_rows(checkpoint)), "", "Differences from expectation"]
    found = _differences(checkpoint)
    lines += [f"  - {line}" for line in found] or ["  none"]
    sys.stdout.write("\n".join(lines) + "\n")


def _rows(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    config, report = checkpoint.config, checkpoint.report
    genes = checkpoint.vocabulary.genes
    told = checkpoint.preprocessing.factors_source or "none in the checkpoint"
    labels = checkpoint.classes
    return [
        ("format", report.format),
        ("files", f"{', '.join(report.files)} ({report.n_bytes / 1e6:.1f} MB)"),
        ("key prefix", report.prefix or "none"),
        ("layers x width", f"{config.n_layers} x {config.d_model}, state {config.d_state}, {config.n_heads} heads"),
        ("parameters", f"{_n_parameters(checkpoint):,} in encoder and head"),
        ("fusion", f"{config.fusion} ({report.fusion_reason})"),
        ("mixers", "trained" if checkpoint.mixers_trained else "never trained: all D and norm weights are exactly 1"),
        ("head", "over the vocabulary" if checkpoint.head else "none"),
        ("[CLS]", "has a row" if checkpoint.has_cls else "has no row"),
        ("classes", f"{len(labels)}: {_first(labels)}" if labels else "no classifier"),
        ("genes", f"{len(genes):,}: {_first(genes)}"),
        ("rank factors", told),
    ]


def _differences(checkpoint: Checkpoint) -> list[str]:
    config, report = checkpoint.config, checkpoint.report
    found = [*report.disagreements]
    found += [f"tensor not used: {name}" for name in report.unused]
    if report.format == "scgenemamba":
        return found
    if not checkpoint.mixers_trained:
        found.append("the mixers never received a gradient, as when the public code returns its input unchanged")
    if config.n_tokens - checkpoint.has_cls != _PUBLISHED_TOKENS:
        found.append(f"{config.n_tokens:,} rows of the embedding table instead of {_PUBLISHED_TOKENS:,}")
    expected = _PUBLISHED.get((config.n_layers, config.d_model))
    if expected is None:
        found.append(f"{config.n_layers} layers x {config.d_model} is none of the published sizes")
    elif config.fusion == "mean" and checkpoint.head and not checkpoint.has_cls:
        if (n := _n_parameters(checkpoint)) != expected:
            found.append(f"{n:,} parameters instead of {expected:,}")
    return found


def _n_parameters(checkpoint: Checkpoint) -> int:
    # one tensor at a time; a tied head has the table of the embeddings
    encoder = sum(t.numel() for t in checkpoint.encoder.values())
    skipped = {"weight"} if checkpoint.config.tied_head else set()
    return encoder + sum(t.numel() for name, t in checkpoint.head.items() if name not in skipped)


def _first(names: Iterable[object]) -> str:
    """The first few names."""
    texts = [str(name) for name in names]
    return ", ".join(texts[:_N_SHOWN]) + (", ..." if len(texts) > _N_SHOWN else "")
