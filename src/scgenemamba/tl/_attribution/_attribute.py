"""Which genes make a model say what it says of a cell: integrated gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scgenemamba.tl._cells import chosen_cells

from ._run import Settings, as_matrix, ask, cells_of, explain, joined

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from anndata import AnnData

    from scgenemamba.model import GeneMambaModel
    from scgenemamba.model._attribution import Baseline, CellAttributions

    from ._run import Question


def attribute(
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
) -> AnnData:
    """Attribute the score of each cell to the genes that it shows, by integrated gradients.

    The score is integrated from a cell of which nothing is known to the cell as it is (Sundararajan et al. 2017, ICML, by captum), over
    the vectors of its tokens and over their part in the linear readout. What its genes add sums up to the difference of the two
    scores: positive genes speak for the target, negative ones against it. Takes about as long as ``n_steps`` epochs of training on
    the cells, so give some of them.

    Parameters
    ----------
    model
        Model, trained or pretrained.
    adata
        Cells, ``None`` for those of the training; not changed, but for what scvi-tools registers.
    target
        Label whose log-odds against all other labels are explained; ``None`` for the likeliest label of each cell. The score is that of
        the network's own heads; :meth:`~scgenemamba.GeneMambaModel.predict` weighs a regression on expression as well. Labels of a later
        ``fit_annotation`` are explained by its regression on the latent.
    direction
        Explain the place of cells along a direction of their embedding instead: a vector ``(n_latent,)`` (for pretrained models that were
        not trained here, of the width of the pooled states), or two groups of ``groupby`` for the way from the mean of the first to that of
        the second, of length one.
    groupby
        Column of ``adata.obs``; cells without a value are left out.
    indices
        Cells to explain, ``None`` for all.
    max_cells
        Explain at most so many cells of each group, drawn at random.
    baseline
        What stands for an unknown gene: the vector of ``[MASK]``, or the ``"mean"`` of all genes.
    n_steps
        Points of the integral; doubled, up to four times, for cells whose attributions miss ``tolerance``.
    tolerance
        Largest part of the difference of the scores by which the sum of a cell's attributions may miss it.
    batch_size
        Cells that are read at a time; does not change the result.
    random_state
        Seed of ``max_cells``.
    silent
        Show no progress bar.

    Returns
    -------
    AnnData of the cells by the genes of the vocabulary. ``X``, float32 and sparse, has an entry for each gene that a cell shows among its
    ``max_tokens`` highest ranked ones. ``obs`` has the columns of ``adata.obs`` and

    - ``attribution_target``: what was explained, categorical,
    - ``attribution_score``, ``attribution_baseline``: score of the cell, and of the cell of which nothing is known,
    - ``attribution_error``: part of their difference that the sum of the attributions misses,
    - ``attribution_steps``: points of the integral.

    :func:`attributed_genes` sums it up, and scanpy draws it as it draws expression.

    Raises
    ------
    ImportError
        If captum is not installed.
    KeyError
        If there is no such column.
    ValueError
        If the model has no labels or not this one, a group has no cells, the direction does not fit, or an argument is out of range.

    Examples
    --------
    >>> attributions = scgenemamba.tl.attribute(model, adata, groupby="cell_type", max_cells=50)
    >>> genes = scgenemamba.tl.attributed_genes(attributions, groupby="cell_type")
    """
    settings = Settings(baseline, n_steps, tolerance, batch_size, silent)
    cells = cells_of(model, adata)
    rows = chosen_cells(cells, groupby, indices, max_cells, random_state)
    question = ask(model, model.module, cells, target, direction, groupby, batch_size)
    parts = explain(model, model.module, cells, rows, question, settings)
    return _as_anndata(model, cells, rows, question, settings, parts)


def _as_anndata(
    model: Any,
    cells: AnnData,
    rows: npt.NDArray[np.int64],
    question: Question,
    settings: Settings,
    parts: list[CellAttributions],
) -> AnnData:
    import anndata as ad

    genes = pd.Index([str(gene) for gene in model.vocabulary.genes])
    target = joined(parts, "target")
    kept = [column for column in cells.obs if not str(column).startswith(("_scvi_", "attribution_"))]
    obs = cells.obs[kept].iloc[rows].copy()
    names = pd.Index(question.names).unique()
    obs["attribution_target"] = pd.Categorical(np.array(question.names)[target], categories=names)
    obs["attribution_target"] = obs["attribution_target"].cat.remove_unused_categories()
    for name in ("score", "baseline", "error", "steps"):
        obs[f"attribution_{name}"] = joined(parts, name)
    out = ad.AnnData(as_matrix(parts, len(genes)), obs=obs, var=pd.DataFrame(index=genes))
    out.uns["attribution"] = {"baseline": settings.baseline, "tolerance": settings.tolerance}
    return out
