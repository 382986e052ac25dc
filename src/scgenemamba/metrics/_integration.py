"""How well embeddings join batches and keep cell types apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ._quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

_NEIGHBORS = 90  # the most that scib-metrics' scores look at
# Up to here all distances are computed; beyond, neighbours are approximate, as scib-metrics' own are
_CELLS_FOR_EXACT = 20_000


def integration_scores(
    adata: AnnData,
    embedding_keys: Sequence[str],
    batch_key: str | None,
    labels_key: str,
    *,
    unintegrated_key: str | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Scores of embeddings, with ``scib_metrics.benchmark.Benchmarker``.

    Parameters
    ----------
    adata
        Cells; not changed. Those without label are left out.
    embedding_keys
        Names in ``adata.obsm``, each of shape ``(n_cells, any)``.
    batch_key
        Column of batches, or ``None`` to score the conservation of biology only.
    labels_key
        Column of cell types.
    unintegrated_key
        Name in ``adata.obsm`` of components of the cells before integration, which the PCR comparison reads. ``None``
        computes 50 principal components of the log-normalised values.
    layer, use_raw
        Where the values are for that, as in :meth:`~scgenemamba.GeneMambaModel.setup_anndata`.
    n_jobs
        Processes for the neighbour search.

    Returns
    -------
    One row an embedding. Columns are scib-metrics' scores, their means ``Batch correction``, ``Bio conservation`` and
    ``Total`` (0.4 and 0.6 of these; without scaling over embeddings, so rows do not depend on each other), and those
    of the GeneMamba paper: ``Avg_bio``, the mean of ``Leiden NMI``, ``Leiden ARI`` and ``Silhouette label``, and
    ``Avg_batch``, the mean of ``Silhouette batch`` and ``Graph connectivity``. Labels of fewer than 10 cells, or in one
    batch only, say nothing about some of the scores and are left out of these.

    Raises
    ------
    ImportError
        If scib-metrics is not installed.
    KeyError
        If there is no such column or embedding.
    ValueError
        If there is a single batch or label, or fewer than 91 cells with a label.
    """
    cells = _prepare(adata, list(embedding_keys), batch_key, labels_key)
    if batch_key is not None:
        cells.obsm["unintegrated"] = _unintegrated(adata, cells, unintegrated_key, layer, use_raw)
    else:
        cells.obsm["unintegrated"] = np.zeros((cells.n_obs, 1))  # read by batch scores only
    with quiet():
        return _score(cells, list(embedding_keys), batch_key is not None, n_jobs)


def check_scib_metrics() -> None:
    """Raise an ImportError that says how to install scib-metrics, if it is missing."""
    try:
        import scib_metrics  # noqa: F401
    except ImportError as error:
        msg = "Scores of integration need scib-metrics: pip install 'scgenemamba[metrics]'."
        raise ImportError(msg) from error


def _prepare(adata: AnnData, keys: list[str], batch_key: str | None, labels_key: str) -> AnnData:
    """Copy with embeddings, ``batch`` and ``label`` of the cells that have a label, under unique names."""
    from anndata import AnnData

    check_scib_metrics()
    for column in filter(None, (batch_key, labels_key)):
        if column not in adata.obs:
            msg = f"{column!r} not found in adata.obs; it has {list(adata.obs.columns)}."
            raise KeyError(msg)
    if missing := [key for key in keys if key not in adata.obsm]:
        msg = f"{missing} not found in adata.obsm; it has {list(adata.obsm)}."
        raise KeyError(msg)
    labelled = np.flatnonzero(adata.obs[labels_key].notna())
    obs = pd.DataFrame({"label": adata.obs[labels_key].to_numpy()[labelled].astype(str)}, labelled.astype(str))
    # scib-metrics wants the column even where it is not read
    obs["batch"] = "all" if batch_key is None else adata.obs[batch_key].to_numpy()[labelled].astype(str)
    _check_sizes(obs, batch_key, labels_key)
    cells = AnnData(obs=obs.astype("category"))
    for key in keys:
        cells.obsm[key] = np.asarray(adata.obsm[key], dtype=np.float32)[labelled]
        if not np.isfinite(cells.obsm[key]).all():
            msg = f"adata.obsm[{key!r}] holds values that are not finite."
            raise ValueError(msg)
    return cells


def _check_sizes(obs: pd.DataFrame, batch_key: str | None, labels_key: str) -> None:
    if len(obs) <= _NEIGHBORS:
        msg = f"{len(obs)} cells have a label in {labels_key!r}; the scores need at least {_NEIGHBORS + 1}."
        raise ValueError(msg)
    if obs["label"].nunique() < 2:
        msg = f"{labels_key!r} has one label, {obs['label'].iloc[0]!r}; the scores need two."
        raise ValueError(msg)
    if batch_key is not None and obs["batch"].nunique() < 2:
        msg = (
            f"{batch_key!r} has one batch, {obs['batch'].iloc[0]!r}, among the cells with a label, so there is nothing to "
            "integrate. batch_key=None scores the conservation of biology only."
        )
        raise ValueError(msg)


def _unintegrated(adata: AnnData, cells: AnnData, key: str | None, layer: str | None, use_raw: bool) -> np.ndarray:
    rows = cells.obs_names.astype(int)
    if key is not None:
        if key not in adata.obsm:
            msg = f"{key!r} not found in adata.obsm (unintegrated_key); it has {list(adata.obsm)}."
            raise KeyError(msg)
        return np.asarray(adata.obsm[key])[rows]
    import scanpy as sc
    from anndata import AnnData

    from scgenemamba.model import linear_expression

    genes = AnnData(linear_expression(adata, layer=layer, use_raw=use_raw)[rows])
    sc.pp.normalize_total(genes, target_sum=1e4)
    sc.pp.log1p(genes)
    sc.pp.pca(genes, n_comps=min(50, genes.n_obs - 1, genes.n_vars - 1))
    return np.asarray(genes.obsm["X_pca"])


def _score(cells: AnnData, keys: list[str], batches: bool, n_jobs: int) -> pd.DataFrame:
    from scib_metrics.benchmark import BatchCorrection, Benchmarker, BioConservation

    benchmarker = Benchmarker(
        cells,
        batch_key="batch",
        label_key="label",
        embedding_obsm_keys=keys,
        bio_conservation_metrics=BioConservation(),
        batch_correction_metrics=BatchCorrection() if batches else None,
        pre_integrated_embedding_obsm_key="unintegrated",
        n_jobs=n_jobs,
        progress_bar=False,
    )
    neighbors: list[Any] = []

    def compute(points: np.ndarray, n: int) -> Any:
        neighbors.append(_nearest(points, n, n_jobs))
        return neighbors[-1]

    benchmarker.prepare(neighbor_computer=compute)
    benchmarker.benchmark()
    table = benchmarker.get_results(min_max_scale=False).drop(index="Metric Type").loc[keys].astype(float)
    ours = [_paper_scores(cells, key, found, batches) for key, found in zip(keys, neighbors, strict=True)]
    table = table.join(pd.DataFrame(ours, index=keys))
    table["Avg_bio"] = table[["Leiden NMI", "Leiden ARI", "Silhouette label"]].mean(axis=1)
    if batches:
        table["Avg_batch"] = table[["Silhouette batch", "Graph connectivity"]].mean(axis=1)
    table.index.name, table.columns.name = "embedding", None
    return table


def _nearest(points: np.ndarray, n: int, n_jobs: int) -> Any:
    from scib_metrics.nearest_neighbors import NeighborsResults, pynndescent

    if len(points) > _CELLS_FOR_EXACT:
        return pynndescent(points, n_neighbors=n, random_state=0, n_jobs=n_jobs)
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=n, algorithm="brute", n_jobs=n_jobs).fit(points)
    distances, indices = search.kneighbors(points)
    # each cell is its own first neighbour, even among cells with the same coordinates
    distances[:, 0], first = 0, np.arange(len(points))
    moved = indices[:, 0] != first
    indices[moved] = np.where(indices[moved] == first[moved, None], indices[moved, :1], indices[moved])
    indices[:, 0] = first
    return NeighborsResults(indices=indices, distances=distances)


def _paper_scores(cells: AnnData, key: str, neighbors: Any, batches: bool) -> dict[str, float]:
    """What the paper's means need beyond scib-metrics' default scores."""
    import scib_metrics

    labels, batch = cells.obs["label"].to_numpy().astype(str), cells.obs["batch"].to_numpy().astype(str)
    leiden = scib_metrics.nmi_ari_cluster_labels_leiden(neighbors.subset_neighbors(n=15), labels)
    scores = {"Leiden NMI": float(leiden["nmi"]), "Leiden ARI": float(leiden["ari"])}
    if batches:
        scores["Silhouette batch"] = float(scib_metrics.silhouette_batch(cells.obsm[key], labels, batch))
    return scores
