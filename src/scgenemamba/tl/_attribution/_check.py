"""Whether attributions are of what a model has learnt."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from scgenemamba.tl._cells import chosen_cells

from ._run import Settings, ask, cells_of, explain, joined

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from anndata import AnnData

    from scgenemamba.model import GeneMambaModel
    from scgenemamba.model._attribution import Baseline


def attribution_check(
    model: GeneMambaModel,
    adata: AnnData | None = None,
    *,
    target: Any = None,
    direction: npt.ArrayLike | tuple[str, str] | None = None,
    groupby: str | None = None,
    indices: Sequence[int] | None = None,
    max_cells: int | None = None,
    baseline: Baseline = "mask",
    n_steps: int = 20,
    tolerance: float = 0.01,
    batch_size: int | None = None,
    random_state: int = 0,
    silent: bool = False,
) -> pd.DataFrame:
    """Compare the attributions of a model with those of the same model with shuffled weights.

    Attributions that hardly change when the weights are randomised show the cells, and not what the model has learnt of them (Adebayo et
    al. 2018, NeurIPS). In a copy of the model, the values of each tensor of weights change places; the same targets of the same cells are
    then explained again.

    Parameters
    ----------
    model, adata, target, direction, groupby, indices, max_cells, baseline, n_steps, tolerance, batch_size, silent
        As in :func:`attribute`.
    random_state
        Seed of the shuffled weights and of ``max_cells``.

    Returns
    -------
    Table of the cells, in their order:

    - ``spearman``: rank correlation of the attributions of both models over the genes of the cell; near zero for attributions that
      depend on the weights. NaN with fewer than three genes.
    - ``spearman_absolute``: the same of their absolute values. Genes of high rank weigh more in any model, so this one is not quite zero.
    - ``error``, ``error_shuffled``: part of the difference of the scores that the sum of the attributions misses.

    Raises
    ------
    ImportError, KeyError, ValueError
        As :func:`attribute`.
    """
    settings = Settings(baseline, n_steps, tolerance, batch_size, silent)
    cells = cells_of(model, adata)
    rows = chosen_cells(cells, groupby, indices, max_cells, random_state)
    question = ask(model, model.module, cells, target, direction, groupby, batch_size)
    trained = explain(model, model.module, cells, rows, question, settings)
    # that of a direction stays: it is in the question, not in the weights
    shuffled = shuffled_copy(model.module, random_state)
    same = question if direction is not None else ask(model, shuffled, cells, target, None, None, batch_size)
    random = explain(model, shuffled, cells, rows, same, settings, joined(trained, "target"), warn=False)
    bounds = joined(trained, "lengths").cumsum()[:-1]
    pairs = [np.split(joined(parts, "values"), bounds) for parts in (trained, random)]
    table = {
        "spearman": [_spearman(a, b) for a, b in zip(*pairs, strict=True)],
        "spearman_absolute": [_spearman(np.abs(a), np.abs(b)) for a, b in zip(*pairs, strict=True)],
        "error": joined(trained, "error"),
        "error_shuffled": joined(random, "error"),
    }
    return pd.DataFrame(table, index=cells.obs_names[rows])


def shuffled_copy(module: Any, random_state: int) -> Any:
    """Copy of a module in which the values of each parameter have changed places."""
    import torch

    copy = deepcopy(module)
    generator = torch.Generator().manual_seed(random_state)
    with torch.no_grad():
        for parameter in copy.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return copy


def _spearman(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(spearmanr(a, b).statistic)
