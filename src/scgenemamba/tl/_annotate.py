"""Annotating cells: labels with probabilities, prediction sets and an answer for what is not known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scgenemamba._logging import logger

from ._decision import ENDINGS, decide, describe
from ._majority import majority_vote, over_cluster

if TYPE_CHECKING:
    from anndata import AnnData

    from scgenemamba.model import GeneMambaModel


def annotate(
    model: GeneMambaModel,
    adata: AnnData,
    *,
    key_added: str = "genemamba",
    coverage: float | None = 0.9,
    unknown_label: str = "Unknown",
    majority_voting: bool | str = False,
    min_share: float = 0.5,
    batch_size: int | None = None,
) -> None:
    """Annotate cells with a trained model, and say which of them it does not know.

    Written are, with ``key`` for ``key_added``:

    - ``obs[key]``: the most probable label, or ``unknown_label``; categorical, as all labels.
    - ``obs[key + "_probability"]``: probability of the most probable label, float32.
    - ``obs[key + "_label"]``: the most probable label, also of unknown cells. This one and the next two with ``coverage``.
    - ``obs[key + "_novelty"]``: novelty score, float32; above 1 a cell is unknown.
    - ``obs[key + "_set"]``: labels of the prediction set, joined by ``" | "``, an empty text if there are none.
    - ``obs[key + "_ontology_term_id"]``: term of the Cell Ontology of ``obs[key]``, for models that know them, ``"unknown"`` for others.
    - ``obs[key + "_cluster"]``: the clusters that voted, with ``majority_voting=True``.
    - ``obs[key + "_majority"]``: ``obs[key]`` after the vote, with ``majority_voting``.
    - ``obsm[key + "_probabilities"]``: table of cells by labels, float32. ``/`` in a name, which files cannot hold, is ``_``.
    - ``uns[key]``: ``"labels"`` (names of that table as the model has them), ``"columns"`` (those of ``obs``), ``"params"``.

    scvi-tools registers the cells with the model as in every prediction (``_scvi_batch``, ``_scvi_labels``).

    Parameters
    ----------
    model
        Model with labels, trained or loaded.
    adata
        Cells, changed in place. Genes are matched by name; batch and label columns are not needed.
    key_added
        Name of the result; results of an earlier call under this name are replaced.
    coverage
        Share of the cells whose prediction set holds their true label. ``None`` writes labels and probabilities
        only, without sets, novelty and unknown cells, for models that were never calibrated.
    unknown_label
        What cells are called that are more novel than 95 % of the calibration cells, or whose prediction set is empty.
    majority_voting
        Give each cell the commonest label of its cluster as well: column of ``adata.obs`` with the clusters, or ``True``
        for many small Leiden clusters of the latent representation.
    min_share
        Share of a cluster's cells that must agree; where none has it, cells keep their own label.
    batch_size
        Cells at a time.

    Returns
    -------
    ``None``; ``adata`` holds the result.

    Raises
    ------
    ValueError
        If the model has no labels, or is not calibrated and ``coverage`` is given; if ``adata`` is a view; if an argument
        is out of range, or ``unknown_label`` is the name of a label.
    KeyError
        If there is no such column of clusters.

    Examples
    --------
    >>> scgenemamba.tl.annotate(model, adata, majority_voting=True)
    >>> sc.pl.umap(adata, color=["genemamba", "genemamba_novelty"])
    """
    _check(model, adata, key_added, coverage, unknown_label, majority_voting, min_share)
    columns, said = decide(
        model, adata, key_added, coverage=coverage, unknown_label=unknown_label, batch_size=batch_size
    )
    if majority_voting:
        clusters = _clusters(model, adata, majority_voting, batch_size, said.latent)
        if majority_voting is True:
            columns[f"{key_added}_cluster"] = clusters
        columns[f"{key_added}_majority"] = majority_vote(columns[key_added], clusters, min_share)
    _write(adata, key_added, columns, said.probabilities)
    params = {"unknown_label": unknown_label, "majority_voting": majority_voting, "min_share": min_share}
    # files hold no None: what was not asked for is left out
    adata.uns[key_added]["params"] = params if coverage is None else {"coverage": coverage, **params}
    logger.info(describe(columns, key_added, unknown_label, coverage))


def _names(key: str) -> list[str]:
    """All columns of ``obs`` that a result may have."""
    return [key, *(f"{key}_{ending}" for ending in ENDINGS)]


def _check(
    model: Any,
    adata: AnnData,
    key: str,
    coverage: float | None,
    unknown_label: str,
    majority_voting: bool | str,
    min_share: float,
) -> None:
    """Refuse what cannot work, before any long work."""
    if adata.is_view:
        msg = "adata is a view of another AnnData: annotate a copy, adata.copy()."
        raise ValueError(msg)
    if not model.labels:
        msg = (
            "The model has no labels: annotate with one that was set up with `labels_key=` and trained, or fit an "
            "annotation to labelled cells, `model.fit_annotation(adata, labels_key=)`."
        )
        raise ValueError(msg)
    if coverage is not None and not 0 < coverage < 1:
        msg = f"coverage must be between 0 and 1, or None for no prediction sets, got {coverage}."
        raise ValueError(msg)
    if not 0 <= min_share <= 1:
        msg = f"min_share must be from 0 to 1, got {min_share}."
        raise ValueError(msg)
    if unknown_label in {str(label) for label in model.labels}:
        msg = f"unknown_label={unknown_label!r} is a label of the model: choose another name for unknown cells."
        raise ValueError(msg)
    if isinstance(majority_voting, str) and majority_voting not in adata.obs:
        msg = f"{majority_voting} not found in adata.obs (majority_voting); it has {list(adata.obs.columns)}."
        raise KeyError(msg)
    if isinstance(majority_voting, str) and majority_voting in _names(key):
        msg = f"obs[{majority_voting!r}] (majority_voting) would be overwritten: choose another key_added."
        raise ValueError(msg)


def _clusters(
    model: Any, adata: AnnData, majority_voting: bool | str, batch_size: int | None, latent: np.ndarray | None
) -> pd.Categorical:
    if isinstance(majority_voting, str):
        return pd.Categorical(adata.obs[majority_voting])
    if latent is None:
        latent = model.get_latent_representation(adata, batch_size=batch_size)
    return over_cluster(latent)


def _write(adata: AnnData, key: str, columns: dict[str, Any], probabilities: pd.DataFrame) -> None:
    """Write a result by position, since names of cells may occur twice."""
    before = adata.uns.get(key)
    earlier = list(before.get("columns", ())) if hasattr(before, "get") else []
    # what an earlier call wrote and this one does not would be read as a part of this one
    for name in set(earlier) & set(_names(key)) - set(columns):
        adata.obs.drop(columns=name, errors="ignore", inplace=True)
    for name, values in columns.items():
        adata.obs[name] = values
    names = _file_names([str(label) for label in probabilities.columns])
    table = probabilities.to_numpy(np.float32)
    adata.obsm[f"{key}_probabilities"] = pd.DataFrame(table, columns=names, index=adata.obs_names)
    adata.uns[key] = {
        "labels": np.array([str(label) for label in probabilities.columns], dtype=object),
        "columns": np.array(list(columns), dtype=object),
    }


def _file_names(labels: list[str]) -> list[str]:
    """Labels as names within a file, where ``/`` would mean a folder; no two are equal."""
    names: list[str] = []
    for label in labels:
        name = label.replace("/", "_")
        while name in names or (name != label and name in labels):
            name += "_"
        names.append(name)
    return names
