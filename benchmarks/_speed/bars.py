"""The bars that the package is held to, and whether the results clear them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .results import Result

_TWO_PASS = ("two-pass, by steps", "two-pass, at once", "two-pass, own code")
_TRANSFORMERS = ("two-pass, transformers",)
_FLAT = (1_024, 2_048, 4_096, 8_192, 16_384)
_MATCHED = {2_048: 1.0, 4_096: 1.4, 8_192: 2.3, 16_384: 4.0}


@dataclass(frozen=True)
class Bar:
    """A number to reach.

    Attributes
    ----------
    number
        Which bar.
    what
        What is compared.
    value
        What was measured, ``None`` if it was not.
    target
        What to reach.
    at_most
        Whether smaller is better.
    """

    number: str
    what: str
    value: float | None
    target: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether it is cleared."""
        assert self.value is not None
        return self.value <= self.target if self.at_most else self.value >= self.target


def bars(results: Sequence[Result]) -> dict[str, dict[str, Any]]:
    """All bars for which there are results, by number."""
    found = [*_of_encoder(results), *_of_cells(results), *_of_block(results), *_of_preset(results), *_of_fits(results)]
    return {
        bar.number: {"what": bar.what, "value": bar.value, "target": bar.target, "met": bar.met}
        for bar in found
        if bar.value is not None
    }


def _of_encoder(results: Sequence[Result]) -> Iterator[Bar]:
    cells = fastest(results, ["ours"], "cells_per_s", part="forward", length=2_048)
    yield Bar("1a", "forward, cells/s at 2,048 tokens", cells, 1_000)
    two_pass = _times_as_fast(results, _TWO_PASS, part="forward", length=2_048)
    yield Bar("1b", "forward, times two-pass at 2,048 tokens", two_pass, 2.1)
    for letter, (length, target) in zip("cdef", _MATCHED.items(), strict=True):
        matched = _times_as_fast(results, ["Transformer, matched"], part="forward", length=length)
        yield Bar(f"1{letter}", f"forward, times matched Transformer at {length:,} tokens", matched, target)
    rates = [fastest(results, ["ours"], "tokens_per_s", part="forward", length=length) for length in _FLAT]
    known = [rate for rate in rates if rate is not None]
    loss = 1 - min(known) / max(known) if len(known) == len(_FLAT) else None
    yield Bar("1g", "forward, tokens/s lost between 1,024 and 16,384 tokens", loss, 0.1, at_most=True)
    tokens = fastest(results, ["ours"], "tokens_per_s", part="step", length=2_048)
    yield Bar("3a", "training step, tokens/s at 2,048 tokens", tokens, 0.45e6)
    two_pass = _times_as_fast(results, _TWO_PASS, part="step", length=2_048)
    yield Bar("3b", "training step, times two-pass at 2,048 tokens", two_pass, 2.1)
    first = next((row.seconds for row in results if row.part == "cold"), None)
    yield Bar("4", "first batch and its gradients without caches, seconds after imports", first, 10, at_most=True)


def _of_cells(results: Sequence[Result]) -> Iterator[Bar]:
    alone = fastest(results, ["ours"], "cells_per_s", part="cells", what="network alone")
    yield Bar("2a", "network alone on packed blood cells, cells/s", alone, 2_200)
    whole = fastest(results, ["ours"], "cells_per_s", part="cells", what="get_latent_representation")
    share = whole / alone if whole and alone else None
    yield Bar("2b", "get_latent_representation, share of the network alone", share, 0.8)


def _of_block(results: Sequence[Result]) -> Iterator[Bar]:
    letters = iter("abcdefgh")
    for name, rivals, target in (("two-pass", _TWO_PASS, 1.5), ("transformers", _TRANSFORMERS, 2.0)):
        for width in (128, 512):
            for what in ("forward", "training"):
                keys = {"part": "block", "what": what, "width": width, "length": 2_048}
                ratios = [_times_as_fast(results, rivals, threads=threads, **keys) for threads in (1, 2)]
                known = [ratio for ratio in ratios if ratio is not None]
                text = f"block of width {width}, {what}, times {name} at 2,048 tokens"
                yield Bar(f"5{next(letters)}", text, min(known, default=None), target)


def _of_preset(results: Sequence[Result]) -> Iterator[Bar]:
    tokenizer = fastest(results, ["ours"], "cells_per_s", part="tokenizer", what="simulated")
    yield Bar("6a", "tokenizer, cells/s", tokenizer, 30_000)
    loop = fastest(results, ["per-row loop"], "cells_per_s", part="tokenizer", what="simulated")
    yield Bar("6b", "tokenizer, times a loop over rows", tokenizer / loop if tokenizer and loop else None, 5)
    for letter, what, target in (("a", "training on counts", 60), ("b", "embedding", 200)):
        rate = fastest(results, ["ours"], "cells_per_s", part="preset", what=what)
        yield Bar(f"7{letter}", f"small preset, {what}, cells/s", rate, target)


def _of_fits(results: Sequence[Result]) -> Iterator[Bar]:
    rows = [row for row in results if row.part == "scaling" and row.rival == "ours"]
    for letter, what, value in (
        ("a", "forward", "seconds"),
        ("b", "training", "seconds"),
        ("c", "forward", "peak_bytes"),
        ("d", "training", "peak_bytes"),
    ):
        points = [(row.length, getattr(row, value)) for row in rows if row.what == what]
        yield Bar(f"8{letter}", f"{what}, r2 of a line through {value} against length", r_squared(points), 0.99)


def fastest(results: Iterable[Result], rivals: Sequence[str], value: str, **keys: Any) -> float | None:
    """Largest value of the rows of some rivals that have the given keys."""
    rows = (row for row in results if row.rival in rivals and all(getattr(row, k) == v for k, v in keys.items()))
    return max((number for row in rows if (number := getattr(row, value)) is not None), default=None)


def r_squared(points: Sequence[tuple[float | None, float | None]]) -> float | None:
    """Share of the variance that a line explains, from four points on."""
    known = [(x, y) for x, y in points if x is not None and y is not None]
    if len(known) < 4:
        return None
    x, y = np.array(known, dtype=float).T
    return float(np.corrcoef(x, y)[0, 1] ** 2)


def _times_as_fast(results: Sequence[Result], rivals: Sequence[str], **keys: Any) -> float | None:
    ours = fastest(results, ["ours"], "tokens_per_s", **keys)
    theirs = fastest(results, rivals, "tokens_per_s", **keys)
    return ours / theirs if ours and theirs else None
