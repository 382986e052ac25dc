"""Pretraining from a configuration file and arguments that replace its values."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from scgenemamba.pretraining import PretrainConfig

from ._settings import settings_of, settings_parser

# as a shell reports a process that was ended by SIGTERM
_ENDED = 143


def run_pretrain(argv: Sequence[str]) -> int:
    """Run ``scgenemamba pretrain``; returns its exit status, 143 if the process was asked to end.

    Raises
    ------
    ImportError
        If jsonargparse is not installed.
    """
    parser = _parser()
    found = parser.parse_args(list(argv))
    only_look = found.pop("dry_run")
    config: PretrainConfig = settings_of(parser, found, PretrainConfig)

    from lightning.pytorch.utilities import rank_zero_only
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from scgenemamba.pretraining import dry_run, pretrain

    if getattr(rank_zero_only, "rank", 0) == 0:
        sys.stdout.write(parser.dump(found, skip_unset=False) + "\n")
        sys.stdout.flush()
    if only_look:
        sys.stdout.write(f"{dry_run(config)}\n")
        return 0
    try:
        pretrain(config)
    except SIGTERMException:
        return _ENDED
    return 0


def _parser() -> Any:
    parser = settings_parser(
        "pretrain",
        PretrainConfig,
        "[--dry-run]",
        "Train a model on files that are streamed from disk. What is trained, on what and how stands in a YAML file; "
        "arguments replace its values. The same command goes on where a run was stopped.",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check data, memory, disk and speed with a few steps, and stop"
    )
    return parser
