"""Reference models from a configuration file and arguments that replace its values."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from scgenemamba.reference import ReferenceConfig

from ._settings import settings_of, settings_parser


def run_reference(argv: Sequence[str]) -> int:
    """Run ``scgenemamba reference``; returns its exit status.

    Raises
    ------
    ImportError
        If jsonargparse is not installed.
    """
    parser = settings_parser(
        "reference",
        ReferenceConfig,
        "[--only STUDY]",
        "Train a model that others annotate their cells with, measure it on studies that were left out, and write it with a card, "
        "or publish it. What it is made of stands in a YAML file; arguments replace its values.",
    )
    parser.add_argument("--only", metavar="STUDY", help="only measure how well this study is annotated without it")
    found = parser.parse_args(list(argv))
    only = found.pop("only")
    config: ReferenceConfig = settings_of(parser, found, ReferenceConfig)

    from scgenemamba.reference import build_reference, judge_study

    if only is not None:
        sys.stdout.write(json.dumps(judge_study(config, only), indent=1) + "\n")
    else:
        build_reference(config)
    return 0
