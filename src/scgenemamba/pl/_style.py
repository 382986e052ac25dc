"""What the figures share: colours, new axes, labels as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

MISSING_COLOR = "0.8"
_TONES = (1.0, 0.6, 1.45)  # lightness, relative to the palette's own


def colors_of(categories: Sequence[Any]) -> dict[Any, tuple[float, float, float]]:
    """A colour for each category: seaborn's colour-blind palette, then its colours darker and lighter.

    Parameters
    ----------
    categories
        Names, in the order in which they get their colours.
    """
    import seaborn as sns

    # without the palette's grey, which marks what is missing
    base = [color for i, color in enumerate(sns.color_palette("colorblind")) if i != 7]
    if len(categories) > len(base) * len(_TONES):
        return dict(zip(categories, sns.color_palette("husl", len(categories)), strict=True))
    colors = [_toned(color, tone) for tone in _TONES for color in base]
    return dict(zip(categories, colors, strict=False))


def _toned(color: tuple[float, float, float], tone: float) -> tuple[float, float, float]:
    """Colour mixed with white for a tone above 1, with black below."""
    target, share = (1.0, tone - 1) if tone > 1 else (0.0, 1 - tone)
    red, green, blue = (part + share * (target - part) for part in color)
    return red, green, blue


def new_axes(width: float, height: float) -> Axes:
    """Axes of a new figure in which nothing is cut off, size in inches."""
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def hide_frame(ax: Axes) -> None:
    """Leave only the lines that carry ticks."""
    ax.spines[["top", "right"]].set_visible(False)


def legend_above(ax: Axes, handles: Sequence[Any] | None = None, title: str | None = None) -> None:
    """Legend outside of the axes, where it hides nothing."""
    ax.legend(
        handles=ax.get_legend_handles_labels()[0] if handles is None else handles,
        title=title,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0.2,
        frameon=False,
        fontsize=8,
        title_fontsize=8,
        alignment="left",
    )


def as_text(values: Any, name: str, n_cells: int | None = None) -> npt.NDArray[np.object_]:
    """Label of each cell as text, ``None`` where it is missing, shape ``(n_cells,)``.

    Raises
    ------
    ValueError
        If there is not one label for each cell.
    """
    column = pd.Series(np.asarray(values, dtype=object))
    if n_cells is not None and len(column) != n_cells:
        msg = f"{name} must have a label for each of {n_cells} cells, got {len(column)}."
        raise ValueError(msg)
    return column.astype(str).where(column.notna(), None).to_numpy(object)
