"""The main job from file to figure: split, train, embed, cluster, annotate, compare."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ._demo_figure import draw_demo
from ._demo_labels import label_demo

if TYPE_CHECKING:
    from anndata import AnnData

    from scgenemamba import GeneMambaModel

_QUERY_SHARE = 0.2
_UNLABELED = "Unknown"
# Visits of cells that fit the demo's promise of three minutes on two cores
_DEMO_VISITS = 12_000


@dataclass(frozen=True)
class DemoSettings:
    """Where the expression values and names are, and how to train."""

    labels_key: str
    batch_key: str | None
    layer: str | None
    use_raw: bool
    gene_key: str | None
    preset: str
    max_epochs: int | None


def run_demo(
    *,
    out: Path,
    data: Path | None = None,
    labels_key: str | None = None,
    batch_key: str | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    preset: str = "tiny",
    max_epochs: int | None = None,
    n_seeds: int = 1,
) -> None:
    """Run the main job and write ``result.h5ad``, ``figure.png`` and ``metrics.json`` into ``out``.

    On the cells that scanpy ships, the model that comes with the package labels them as well, and ``labels.png`` shows where and
    why it disagrees.

    Parameters
    ----------
    out
        Folder of the results, made if missing.
    data
        ``.h5ad`` file, ``None`` for the cells that scanpy ships.
    labels_key, batch_key, layer, use_raw, gene_key
        Where labels, batches, values and gene names are, as in
        :meth:`~scgenemamba.GeneMambaModel.setup_anndata`.
    preset, max_epochs
        Size of the model and epochs of training.
    n_seeds
        Number of splits; files are written for the first.

    Raises
    ------
    ValueError
        If the file has no such columns.
    FileNotFoundError
        If there is no such file.
    """
    started = time.perf_counter()
    adata, labels_key, use_raw, max_epochs = _read(data, labels_key, use_raw, max_epochs)
    settings = DemoSettings(labels_key, batch_key, layer, use_raw, gene_key, preset, max_epochs)
    out.mkdir(parents=True, exist_ok=True)
    tables = []
    for seed in range(n_seeds):
        model, is_query, table = _train_and_compare(adata, settings, seed)
        tables.append(table)
        if seed == 0:
            _embed_and_cluster(adata, model)
            draw_demo(adata, model, settings.labels_key, is_query, out / "figure.png")
            if data is None:
                label_demo(adata, out / "labels.png")
            adata.write_h5ad(out / "result.h5ad")
    mean = pd.concat(tables).groupby(level=0, sort=False).mean()
    seconds = time.perf_counter() - started
    _write_metrics(out / "metrics.json", settings, adata, tables, mean, seconds)
    figures = "figure.png" if data is not None else "figure.png, labels.png"
    _report(mean, n_seeds, int(is_query.sum()), f"result.h5ad, {figures} and metrics.json to {out}", seconds)


def _read(
    data: Path | None, labels_key: str | None, use_raw: bool, max_epochs: int | None
) -> tuple[AnnData, str, bool, int | None]:
    import scanpy as sc

    if data is None:
        adata = sc.datasets.pbmc68k_reduced()
        labels_key, use_raw = labels_key or "bulk_labels", True
        max_epochs = max_epochs or max(_DEMO_VISITS // adata.n_obs, 1)
        return adata, labels_key, use_raw, max_epochs
    if not data.exists():
        msg = f"No file {data}."
        raise FileNotFoundError(msg)
    adata = sc.read_h5ad(data)
    if labels_key is None or labels_key not in adata.obs:
        msg = f"--labels must name a column of obs; {data.name} has {list(adata.obs.columns)}."
        raise ValueError(msg)
    return adata, labels_key, use_raw, max_epochs


def _train_and_compare(
    adata: AnnData, settings: DemoSettings, seed: int
) -> tuple[GeneMambaModel, np.ndarray, pd.DataFrame]:
    """Train on the reference and score the query, beside two baselines on the same split."""
    import scvi

    from scgenemamba import GeneMambaModel

    scvi.settings.seed = seed
    labels = adata.obs[settings.labels_key].astype(object).where(adata.obs[settings.labels_key].notna(), _UNLABELED)
    labels = labels.astype(str)
    is_query = _split(labels, seed)
    adata.obs["split"] = pd.Categorical(np.where(is_query, "query", "reference"))
    reference, query = adata[~is_query].copy(), adata[is_query].copy()
    GeneMambaModel.setup_anndata(
        reference,
        layer=settings.layer,
        batch_key=settings.batch_key,
        labels_key=settings.labels_key,
        unlabeled_category=_UNLABELED,
        gene_key=settings.gene_key,
        use_raw=settings.use_raw,
    )
    model = GeneMambaModel(reference, preset=settings.preset)
    # small batches: a few hundred cells need steps more than they need smooth gradients
    batch_size = 32 if reference.n_obs < 5_000 else 128
    model.train(max_epochs=settings.max_epochs, batch_size=batch_size, check_val_every_n_epoch=1)
    predicted = model.predict(query)
    adata.obs["predicted"] = pd.Categorical(np.asarray(model.predict(adata)))
    scored = (labels != _UNLABELED).to_numpy()[is_query]
    predictions = {"scgenemamba": np.asarray(predicted), **_baselines(adata, settings, labels, is_query, seed)}
    truth = labels.to_numpy()[is_query][scored]
    table = pd.DataFrame({name: _scores(truth, labels_[scored]) for name, labels_ in predictions.items()}).T
    return model, is_query, table


def _split(labels: pd.Series, seed: int) -> np.ndarray:
    """Boolean query mask; labels of a single cell stay in the reference."""
    from sklearn.model_selection import train_test_split

    sizes = labels.map(labels.value_counts()).to_numpy()
    candidates = np.flatnonzero((sizes > 1) & (labels != _UNLABELED).to_numpy())
    stratify = labels.to_numpy()[candidates]
    n_query = max(round(_QUERY_SHARE * len(candidates)), len(np.unique(stratify)))
    if len(np.unique(stratify)) < 2 or n_query >= len(candidates):
        msg = "The demo needs at least two labels with several cells each."
        raise ValueError(msg)
    _, query = train_test_split(candidates, test_size=n_query, stratify=stratify, random_state=seed)
    return np.isin(np.arange(len(labels)), query)


def _baselines(
    adata: AnnData, settings: DemoSettings, labels: pd.Series, is_query: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """Logistic regression on log-normalised genes, and nearest neighbours on principal components."""
    import scanpy as sc
    from anndata import AnnData
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MaxAbsScaler

    from scgenemamba.model import linear_expression

    genes = AnnData(linear_expression(adata, layer=settings.layer, use_raw=settings.use_raw))
    sc.pp.normalize_total(genes, target_sum=1e4)
    sc.pp.log1p(genes)
    train = ~is_query & (labels != _UNLABELED).to_numpy()
    n_components = min(50, int(train.sum()) - 1, genes.n_vars - 1)
    methods: dict[str, Any] = {
        "logistic regression": make_pipeline(MaxAbsScaler(), LogisticRegression(max_iter=1000)),
        "PCA + 15 neighbours": make_pipeline(
            PCA(n_components, random_state=seed), KNeighborsClassifier(min(15, int(train.sum())))
        ),
    }
    return {
        name: method.fit(genes.X[train], labels.to_numpy()[train]).predict(genes.X[is_query])
        for name, method in methods.items()
    }


def _scores(true: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score

    return {
        "accuracy": float(accuracy_score(true, predicted)),
        "macro-F1": float(f1_score(true, predicted, average="macro", labels=np.unique(true), zero_division=0)),
    }


def _embed_and_cluster(adata: AnnData, model: GeneMambaModel) -> None:
    import scanpy as sc

    adata.obsm["X_genemamba"] = model.get_latent_representation(adata)
    sc.pp.neighbors(adata, use_rep="X_genemamba", n_neighbors=min(15, adata.n_obs - 1))
    sc.tl.umap(adata, random_state=0)
    sc.tl.leiden(adata, flavor="igraph", n_iterations=2, directed=False, random_state=0)


def _write_metrics(
    file: Path, settings: DemoSettings, adata: AnnData, tables: list[pd.DataFrame], mean: pd.DataFrame, seconds: float
) -> None:
    from importlib.metadata import version

    packages = ["scgenemamba", "scvi-tools", "anndata", "scanpy", "torch"]
    content = {
        "command": "scgenemamba " + " ".join(sys.argv[1:]),
        "cells": adata.n_obs,
        "labels_key": settings.labels_key,
        "mean": mean.to_dict("index"),
        "seeds": [table.to_dict("index") for table in tables],
        "seconds": round(seconds, 1),
        "versions": {package: version(package) for package in packages},
    }
    file.write_text(json.dumps(content, indent=2) + "\n")


def _report(mean: pd.DataFrame, n_seeds: int, n_query: int, written: str, seconds: float) -> None:
    splits = "1 split" if n_seeds == 1 else f"mean of {n_seeds} splits"
    lines = [
        "",
        f"Annotation of {n_query} query cells whose labels were hidden ({splits}):",
        mean.to_string(float_format=lambda value: f"{value:.3f}"),
        "",
        f"Wrote {written} in {seconds:.0f} s.",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
