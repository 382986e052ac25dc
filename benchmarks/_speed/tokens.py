"""The numbers of ``benchmarks/tokenizer.py`` as rows of this table."""

from __future__ import annotations

from .results import Report, Result

_RIVALS = {
    "ours": "tokenizer_cells_per_s",
    "ours, one thread": "tokenizer_one_thread_cells_per_s",
    "per-row loop": "plain_loop_cells_per_s",
}


def measure(report: Report) -> None:
    """Tokenize simulated cells, and blood cells where they are at hand.

    Parameters
    ----------
    report
        Takes the results.
    """
    import tokenizer

    measured = tokenizer.measure()
    for data in ("simulated", "pbmc3k"):
        for rival, key in _RIVALS.items():
            if data in measured:
                report(Result(part="tokenizer", what=data, rival=rival, cells_per_s=measured[data][key]))
