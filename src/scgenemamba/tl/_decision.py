"""From probabilities, prediction sets and novelty to what a cell is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from anndata import AnnData

# Of the columns of obs, after the key
ENDINGS = ("probability", "label", "novelty", "set", "ontology_term_id", "majority", "cluster")
_JOINT = " | "
# as in the schema of CELLxGENE
_NO_TERM = "unknown"


class Said(NamedTuple):
    """What a model says of cells; tables of cells by labels, ``None`` where it was not asked."""

    probabilities: pd.DataFrame
    sets: pd.DataFrame | None = None
    novelty: npt.NDArray[np.float32] | None = None
    latent: npt.NDArray[np.float32] | None = None


def decide(
    model: Any,
    adata: AnnData,
    key: str,
    *,
    coverage: float | None,
    unknown_label: str = "Unknown",
    batch_size: int | None = None,
) -> tuple[dict[str, Any], Said]:
    """Columns of ``obs`` that say what the cells are, and the probabilities they come from.

    Parameters
    ----------
    model
        Something with ``predict``, and for ``coverage`` with ``predict_sets`` and ``novelty_score``; a GeneMambaModel reads
        the cells once for all three.
    adata
        Cells.
    key
        Name of the first column, and start of the others.
    coverage, unknown_label, batch_size
        As in :func:`~scgenemamba.tl.annotate`.

    Returns
    -------
    Columns by name, each of ``n_cells`` values; and what they come from.
    """
    said = _ask(model, adata, coverage, {} if batch_size is None else {"batch_size": batch_size})
    probabilities = said.probabilities
    labels = [str(label) for label in probabilities.columns]
    values = probabilities.to_numpy()
    best = values.argmax(1)
    columns: dict[str, Any] = {
        key: _categories(best, labels),
        f"{key}_probability": values.max(1).astype(np.float32),
    }
    if said.sets is not None:
        novelty = np.asarray(said.novelty, dtype=np.float32)
        members = said.sets[probabilities.columns].to_numpy(bool)
        unknown = (novelty > 1) | ~members.any(1)
        columns[key] = _categories(np.where(unknown, len(labels), best), [*labels, unknown_label])
        columns[f"{key}_label"] = _categories(best, labels)
        columns[f"{key}_novelty"] = novelty
        columns[f"{key}_set"] = _join(members, labels)
    if ids := getattr(model, "ontology_ids_", {}):
        terms = pd.Series(columns[key].astype(object)).map({str(label): term for label, term in ids.items()})
        columns[f"{key}_ontology_term_id"] = pd.Categorical(terms.fillna(_NO_TERM))
    return columns, said


def _ask(model: Any, adata: AnnData, coverage: float | None, options: dict[str, int]) -> Said:
    if coverage is None:
        return Said(model.predict(adata, soft=True, **options))
    try:
        if hasattr(model, "_annotated"):
            # all at once: the encoder takes nearly all of the time
            return Said(*model._annotated(adata, coverage=coverage, **options))
        # sets first: a model that has none says so before any long work
        sets = model.predict_sets(adata, coverage=coverage, **options)
    except ValueError as error:
        error.add_note("With `coverage=None` labels and probabilities are written, without sets and novelty.")
        raise
    return Said(model.predict(adata, soft=True, **options), sets, model.novelty_score(adata, **options))


def _categories(codes: npt.NDArray[np.intp], names: list[str]) -> pd.Categorical:
    """Categories in the model's order, those that occur."""
    return pd.Categorical.from_codes(codes, categories=pd.Index(names, dtype=object)).remove_unused_categories()


def _join(members: npt.NDArray[np.bool_], labels: list[str]) -> pd.Categorical:
    """Each cell's set as text: in the model's order, so that equal sets are equal texts."""
    distinct, codes = np.unique(members, axis=0, return_inverse=True)
    texts = [_JOINT.join(label for label, inside in zip(labels, row, strict=True) if inside) for row in distinct]
    return pd.Categorical.from_codes(codes.ravel(), categories=pd.Index(texts, dtype=object))


def describe(columns: dict[str, Any], key: str, unknown_label: str, coverage: float | None) -> str:
    """What was found, in a line."""
    n_cells = len(columns[key])
    n_labels = len(set(columns[key].categories) - {unknown_label})
    if coverage is None:
        return f"{n_cells} cells have {n_labels} labels, in obs[{key!r}]; without prediction sets none is {unknown_label!r}."
    is_new, is_empty = columns[f"{key}_novelty"] > 1, columns[f"{key}_set"] == ""
    return (
        f"{n_cells} cells have {n_labels} labels, in obs[{key!r}]; {(is_new | is_empty).sum()} are {unknown_label!r} "
        f"({is_new.sum()} by novelty, {(is_empty & ~is_new).sum()} by an empty prediction set)."
    )
