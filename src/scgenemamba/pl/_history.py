"""Training curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scgenemamba.model import GeneMambaModel


def training_curves(model: GeneMambaModel, *, metric: str = "loss", ax: Axes | None = None) -> Axes:
    """Draw a loss over the epochs, on training and validation cells where both were recorded.

    Parameters
    ----------
    model
        Trained model.
    metric
        ``"loss"`` for the total, or the name of one loss, such as ``"masked_genes"``.
    ax
        Axes to draw into, ``None`` for new ones.

    Raises
    ------
    ValueError
        If the model is not trained or has no such metric.
    """
    import matplotlib.pyplot as plt

    history = model.history or {}
    names = {"train": f"train_{metric}", "validation": f"validation_{metric}"}
    if metric != "loss":
        names = {stage: f"{metric}_{stage}" for stage in names}
    found = {stage: history[name] for stage, name in names.items() if name in history}
    if not found:
        msg = f"No metric {metric!r} in the model's history; it has {sorted(history)}."
        raise ValueError(msg)
    ax = plt.subplots(figsize=(4, 3))[1] if ax is None else ax
    for stage, frame in found.items():
        ax.plot(frame.index + 1, frame.iloc[:, 0], label=stage, marker="." if len(frame) < 20 else None)
    ax.set(xlabel="epoch", ylabel=metric.replace("_", " "))
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
