"""The small preset on a CPU, from AnnData on: training and embedding."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .block import THREADS, torch_threads
from .results import Report, Result

if TYPE_CHECKING:
    from anndata import AnnData

N_CELLS = 768


def measure(report: Report, *, n_cells: int = N_CELLS, threads: Sequence[int] = THREADS) -> None:
    """Train for an epoch, with and without the masked-gene loss, and embed.

    Parameters
    ----------
    report
        Takes the results.
    n_cells
        Simulated cells.
    threads
        Threads to try.
    """
    from anndata import AnnData
    from tokenizer import simulate

    from scgenemamba import GeneMambaModel

    adata = AnnData(simulate(n_cells))
    GeneMambaModel.setup_anndata(adata)
    for n_threads in threads:
        with torch_threads(n_threads):
            for what, seconds in _times(adata):
                rate = n_cells / seconds
                report(
                    Result(part="preset", what=what, rival="ours", threads=n_threads, seconds=seconds, cells_per_s=rate)
                )


def _times(adata: AnnData) -> list[tuple[str, float]]:
    from scgenemamba import GeneMambaModel

    settings = {"max_epochs": 1, "train_size": 1.0, "accelerator": "cpu", "enable_progress_bar": False}
    counts, both = GeneMambaModel(adata, preset="small", masked_weight=0), GeneMambaModel(adata, preset="small")
    # compiles the tokenizer
    both.is_trained_ = True
    both.get_latent_representation(indices=range(8))
    return [
        ("training on counts", _seconds(lambda: counts.train(**settings))),
        ("training on counts and masked genes", _seconds(lambda: both.train(**settings))),
        ("embedding", _seconds(both.get_latent_representation)),
    ]


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
