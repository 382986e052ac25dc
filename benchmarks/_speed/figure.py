"""Time and memory against length."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from .results import Result

_PARTS = ("forward", "training", "step", "scaling")


def plot(results: Sequence[Result], path: Path) -> None:
    """Draw one column per measurement that has more than one length: time per cell above, memory below.

    Parameters
    ----------
    results
        Rows; those without numbers are left out.
    path
        ``.png`` to write.
    """
    import matplotlib.pyplot as plt

    columns: dict[str, list[Result]] = defaultdict(list)
    for row in results:
        if row.part in _PARTS and row.length and row.cells_per_s:
            columns[row.what].append(row)
    columns = {what: rows for what, rows in columns.items() if len({row.length for row in rows}) > 1}
    if not columns:
        return
    size = (4.5 * len(columns), 7.5)
    figure, axes = plt.subplots(2, len(columns), figsize=size, squeeze=False, sharex="col", layout="constrained")
    colours = {rival: f"C{i}" for i, rival in enumerate(dict.fromkeys(row.rival for row in results))}
    for (top, bottom), (what, rows) in zip(axes.T, columns.items(), strict=True):
        for rival in dict.fromkeys(row.rival for row in rows):
            of_rival = [row for row in rows if row.rival == rival]
            style = {"marker": "o", "markersize": 4, "color": colours[rival], "label": rival}
            times = [(row.length, 1e3 / row.cells_per_s) for row in of_rival if row.cells_per_s]
            top.loglog(*_columns(times), **style)
            if memory := [(row.length, row.peak_bytes / 2**30) for row in of_rival if row.peak_bytes]:
                bottom.loglog(*_columns(memory), **style)
        top.set(title=what, ylabel="ms per cell")
        bottom.set(xlabel="tokens per cell", ylabel="peak memory, GiB")
        ticks = sorted({row.length for row in rows if row.length})
        top.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        top.xaxis.minorticks_off()
    lines = {line.get_label(): line for axis in axes[0] for line in axis.get_lines()}
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=3, fontsize="small", frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _columns(points: Iterable[tuple[int | None, float]]) -> tuple[list[int | None], list[float]]:
    pairs = list(points)
    return [x for x, _ in pairs], [y for _, y in pairs]
