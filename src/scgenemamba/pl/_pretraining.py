"""Losses of a pretraining."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ._style import colors_of, hide_frame, legend_above, new_axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_VALIDATION = "masked_genes_validation"
_BASELINES = {"unigram": ":", "mean_rank": "--"}


def pretraining_curves(
    log: pd.DataFrame, baselines: Mapping[str, Mapping[str, float]] | None = None, *, ax: Axes | None = None
) -> Axes:
    """Draw losses against the tokens seen, with those of simple guesses.

    Parameters
    ----------
    log
        What a pretraining logs, ``metrics.csv``, by step.
    baselines
        Losses of ``unigram`` and ``mean_rank`` by the name of the cells, ``"held_out"`` for those of the training's files.
    ax
        Axes to draw into, ``None`` for new ones.

    Raises
    ------
    ValueError
        If nothing was logged that can be drawn.
    """
    if "tokens" not in log or "train_loss_step" not in log:
        msg = f"The log has no tokens or losses by step; it has {list(log.columns)}."
        raise ValueError(msg)
    from matplotlib.ticker import EngFormatter

    ax = new_axes(5, 3.6) if ax is None else ax
    tokens = log["tokens"].interpolate(limit_direction="both")
    train = log["train_loss_step"].dropna()
    ax.plot(tokens[train.index], train, color="0.75", lw=1, label="training")
    found = {
        column.removeprefix(_VALIDATION).removeprefix("_") or "held_out": log[column].dropna()
        for column in map(str, log)
        if column.startswith(_VALIDATION)
    }
    colors = colors_of(list(found))
    for name, values in found.items():
        ax.plot(tokens[values.index], values, color=colors[name], marker=".", label=name.replace("_", " "))
        for kind, style in _BASELINES.items():
            height = (baselines or {}).get(name, {}).get(kind)
            if height is not None:
                label = f"{name.replace('_', ' ')}, {kind.replace('_', ' ')}"
                ax.axhline(height, color=colors[name], ls=style, lw=1, label=label)
    ax.xaxis.set_major_formatter(EngFormatter())
    ax.set(xlabel="tokens", ylabel="loss of hidden genes, nats")
    hide_frame(ax)
    legend_above(ax)
    return ax
