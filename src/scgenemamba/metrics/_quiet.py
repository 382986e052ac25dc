"""Silence for the libraries that a benchmark runs, so that its own lines can be read."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_TALKATIVE = ("scvi", "scib_metrics", "lightning.pytorch", "lightning.fabric", "celltypist", "harmonypy")


@contextmanager
def quiet() -> Iterator[None]:
    """Without warnings and information of the libraries; as it was afterwards, handlers of the root logger included."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    root = logging.getLogger()
    # importing CellTypist gives the root logger a handler
    handlers, level = list(root.handlers), root.level
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, before in zip(loggers, levels, strict=True):
            logger.setLevel(before)
        root.handlers[:], root.level = handlers, level
