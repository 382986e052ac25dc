"""One layer on a CPU, in float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec

import torch

from scgenemamba.nn import BiMambaEncoder, GeneMambaConfig

from .encoder import Forward, Training, make_batch
from .results import Report, Result
from .rivals import mix_in_torch, mix_of_transformers, mixer_of_transformers, two_pass
from .timing import time_in_turn

WIDTHS = (128, 512)
LENGTHS = (512, 2_048)
THREADS = (1, 2)

_CPU = torch.device("cpu")
# few, since looking tokens up is not what is measured
_N_TOKENS = 1_000
_THEIRS = "two-pass, transformers"


def measure(
    report: Report,
    *,
    widths: Sequence[int] = WIDTHS,
    lengths: Sequence[int] = LENGTHS,
    threads: Sequence[int] = THREADS,
) -> None:
    """Time one cell through one layer, with its embedding and final norm, against two passes.

    Parameters
    ----------
    report
        Takes the results.
    widths, lengths, threads
        ``d_model``, tokens of the cell, and threads to try.
    """
    if find_spec("transformers") is None:
        report(Result(part="block", what="all", rival=_THEIRS, note="skipped: transformers is not installed"))
    for width in widths:
        config = GeneMambaConfig(n_tokens=_N_TOKENS, d_model=width, n_layers=1)
        networks = {"ours": BiMambaEncoder(config), "two-pass, own code": two_pass(config, mix_in_torch)}
        if find_spec("transformers") is not None:
            networks[_THEIRS] = two_pass(config, mix_of_transformers, mixer_of_transformers)
        for n_threads in threads:
            for length in lengths:
                _measure_one(report, config, networks, length, n_threads)


def _measure_one(
    report: Report, config: GeneMambaConfig, networks: dict[str, torch.nn.Module], length: int, n_threads: int
) -> None:
    batch = make_batch(config, length, length, _CPU)
    for what, task in (("forward", Forward), ("training", Training)):
        calls = {name: partial(task(network), batch) for name, network in networks.items()}
        with torch_threads(n_threads):
            timings = time_in_turn(calls, _CPU)
        for name, timing in timings.items():
            rate = None if timing.median is None else length / timing.median
            result = Result(
                part="block",
                what=what,
                rival=name,
                length=length,
                width=config.d_model,
                threads=n_threads,
                seconds=timing.median,
                spread=timing.spread,
                tokens_per_s=rate,
                cells_per_s=None if rate is None else rate / length,
                note=timing.failure,
            )
            report(result)


@contextmanager
def torch_threads(n_threads: int) -> Iterator[None]:
    """Let PyTorch use a number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
