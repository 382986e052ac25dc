"""Asking a model for attributions, and running through the cells."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from scgenemamba.tl._cells import group_column
from scgenemamba.tokens import Vocabulary, name_some

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from anndata import AnnData

    from scgenemamba.model._attribution import Baseline, CellAttributions
    from scgenemamba.model._attribution_scores import Score
    from scgenemamba.tokens import CellBatch

# the steps are doubled so often before a cell is given up
_MOST_DOUBLINGS = 4


@dataclass(frozen=True)
class Settings:
    """How to integrate; arguments of :func:`attribute`."""

    baseline: Baseline = "mask"
    n_steps: int = 20
    tolerance: float = 0.01
    batch_size: int | None = None
    silent: bool = False

    def __post_init__(self) -> None:
        from scgenemamba.model._attribution import BASELINES

        if self.baseline not in BASELINES:
            msg = f"Unknown baseline {self.baseline!r}; choose 'mask' or 'mean'."
            raise ValueError(msg)
        if self.n_steps < 1:
            msg = f"`n_steps` must be at least 1, got {self.n_steps}."
            raise ValueError(msg)
        if not self.tolerance > 0:
            msg = f"`tolerance` must be above 0, got {self.tolerance}."
            raise ValueError(msg)


@dataclass(frozen=True)
class Question:
    """What is asked of cells.

    Attributes
    ----------
    score
        What is explained.
    names
        Of its targets.
    target
        The one that is explained; ``None`` for the one with the highest score.
    """

    score: Score
    names: list[str] = field(default_factory=list)
    target: int | None = None


def cells_of(model: Any, adata: AnnData | None) -> AnnData:
    """The cells, registered with the model."""
    if adata is None and model.adata is None:
        msg = "The model has no data of its own: give an AnnData, `adata=`."
        raise ValueError(msg)
    model._check_if_trained(warn=False)
    return model._validate_anndata(adata)


def ask(
    model: Any,
    module: Any,
    adata: AnnData,
    target: Any,
    direction: Any,
    groupby: str | None,
    batch_size: int | None,
) -> Question:
    """Check target and direction, and make the score of them; ``module`` is that of the model or a copy."""
    from scgenemamba.model._attribution_scores import DirectionScore, label_score

    if direction is None:
        score = label_score(model, module)
        if target is not None and target not in model.labels:
            msg = f"The model has no label {target!r} (target); it has {name_some(model.labels, 20)}."
            raise ValueError(msg)
        names = [str(label) for label in model.labels]
        return Question(score, names, None if target is None else model.labels.index(target))
    if target is not None:
        msg = "Give either `target` or `direction`."
        raise ValueError(msg)
    pooled = model._choose("auto") == "pooled"
    name = "direction"
    if isinstance(direction, tuple | list) and len(direction) == 2 and isinstance(direction[0], str):
        name = f"{direction[0]} to {direction[1]}"
        direction = _direction_between(model, adata, direction, groupby, batch_size)
    vector = np.asarray(direction, dtype=np.float32)
    network = module.network
    width = network.latent.mean.in_features if pooled else network.config.n_latent
    if vector.shape != (width,) or not np.isfinite(vector).all() or not vector.any():
        space = "pooled hidden states" if pooled else "latent"
        msg = f"`direction` must be {width} finite numbers, as the {space} has, not all zero; its shape is {vector.shape}."
        raise ValueError(msg)
    return Question(DirectionScore(vector, pooled=pooled), [name], 0)


def _direction_between(
    model: Any, adata: AnnData, pair: Sequence[str], groupby: str | None, batch_size: int | None
) -> npt.NDArray[np.float32]:
    """Unit vector from the mean embedding of a group to that of another, over all their cells.

    Raises
    ------
    ValueError
        If there is no column of groups, or a group has no cells.
    """
    if groupby is None:
        msg = f"`direction` names groups, {name_some(pair)}: say which column of obs has them, `groupby=`."
        raise ValueError(msg)
    column = group_column(adata, groupby)
    means = []
    for group in pair:
        rows = np.flatnonzero((column == str(group)).to_numpy())
        if not len(rows):
            told = name_some(column.cat.remove_unused_categories().cat.categories, 20)
            msg = f"`direction`: no cell of obs[{groupby!r}] is in group {group!r}; it has {told}."
            raise ValueError(msg)
        means.append(model.get_latent_representation(adata, indices=rows, batch_size=batch_size).mean(0))
    difference = means[1] - means[0]
    return difference / max(float(np.linalg.norm(difference)), 1e-12)


def explain(
    model: Any,
    module: Any,
    adata: AnnData,
    rows: npt.NDArray[np.int64],
    question: Question,
    settings: Settings,
    target: npt.NDArray[np.int64] | None = None,
    *,
    warn: bool = True,
) -> list[CellAttributions]:
    """Attributions of cells, end to end; ``target`` is that of each cell where they differ."""
    from scgenemamba.model._attribution import TokenAttribution, explaining

    most = settings.n_steps * 2**_MOST_DOUBLINGS
    kinds: Any = {name: getattr(settings, name) for name in ("baseline", "n_steps", "tolerance")}
    method = TokenAttribution(module, question.score, max_steps=most, **kinds)
    if target is None and question.target is not None:
        target = np.full(len(rows), question.target)
    parts: list[CellAttributions] = []
    with explaining(module), _bar(len(rows), settings) as bar:
        done = 0
        for batch in _batches(model, adata, rows, settings):
            n_cells = len(batch["cu_seqlens"]) - 1
            for part in method(batch, None if target is None else target[done : done + n_cells]):
                parts.append(part)
                bar.update(len(part.lengths))
            done += n_cells
    if warn:
        _warn_of_misses(joined(parts, "error"), settings, most)
    return parts


def _bar(n_cells: int, settings: Settings) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=n_cells, desc="Attributing", unit="cell", disable=settings.silent)


def _batches(model: Any, adata: AnnData, rows: npt.NDArray[np.int64], settings: Settings) -> Iterator[CellBatch]:
    from scgenemamba.model._loading import CellLoader

    loader = model._make_data_loader(
        adata=adata,
        indices=rows,
        batch_size=settings.batch_size,
        data_loader_class=CellLoader,
        device=model.device,
        data_and_attributes=[],
    )
    for batch in loader:
        yield {"tokens": batch["tokens"].to(model.device), "cu_seqlens": batch["cu_seqlens"].to(model.device)}


def _warn_of_misses(error: npt.NDArray[np.float32], settings: Settings, most: int) -> None:
    missed = int((error > settings.tolerance).sum())
    if missed:
        msg = (
            f"The attributions of {missed} of {len(error)} cells miss the difference of their scores by more than "
            f"{settings.tolerance:.0%} with {most} steps, the worst by {error.max():.1%}: raise `n_steps`, or leave out the cells whose "
            'obs["attribution_error"] is high.'
        )
        warnings.warn(msg, UserWarning, stacklevel=4)


def joined(parts: list[CellAttributions], name: str) -> npt.NDArray[Any]:
    """An attribute of all cells."""
    return np.concatenate([getattr(part, name) for part in parts])


def as_matrix(parts: list[CellAttributions], n_genes: int) -> sp.csr_matrix:
    """Attributions of cells by genes, float32; a gene that is shown keeps its entry where that is zero."""
    bounds = np.concatenate([[0], joined(parts, "lengths").cumsum()])
    columns = joined(parts, "tokens") - Vocabulary.FIRST_GENE
    matrix = sp.csr_matrix((joined(parts, "values"), columns, bounds), shape=(len(bounds) - 1, n_genes))
    matrix.sort_indices()
    return matrix
