"""Reference models from a configuration file and arguments that replace its values."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from scgenemamba.reference import ReferenceConfig


def run_reference(argv: Sequence[str]) -> int:
    """Run ``scgenemamba reference``; returns its exit status.

    Raises
    ------
    ImportError
        If jsonargparse is not installed.
    """
    try:
        from jsonargparse import ArgumentParser
    except ImportError as error:
        msg = 'Reference models need jsonargparse: pip install "scgenemamba[pretrain]"'
        raise ImportError(msg) from error
    parser = ArgumentParser(
        prog="scgenemamba reference",
        usage="scgenemamba reference --config FILE [--only STUDY] [--SECTION.NAME VALUE ...]",
        description="Train a model that others annotate their cells with, measure it on studies that were left out, and write "
        "it with a card, or publish it. What it is made of stands in a YAML file; arguments replace its values.",
    )
    parser.add_argument("--config", action="config", help="YAML file; --print_config writes one")
    parser.add_argument("--only", metavar="STUDY", help="only measure how well this study is annotated without it")
    parser.add_class_arguments(ReferenceConfig, as_group=False)
    found = parser.parse_args(list(argv))
    only = found.pop("only")
    found.pop("config", None)
    config = ReferenceConfig(**vars(parser.instantiate(found)))

    from scgenemamba.reference import build_reference, judge_study

    if only is not None:
        sys.stdout.write(json.dumps(judge_study(config, only), indent=1) + "\n")
    else:
        build_reference(config)
    return 0
