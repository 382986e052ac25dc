"""Annotation across studies: one study labelled, the other not, all genes known to every method.

    python benchmarks/annotation.py --data pbmc_two_studies.h5ad --reference zheng_facs

Accuracy and macro-F1 of the unlabelled cells, for GeneMambaModel, scANVI and logistic regression. Types absent from the
reference count with an F1 of zero. Results are written as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
from integration import DATA, device_name, variable_genes
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score

from scgenemamba import GeneMambaModel


def main() -> None:
    """Run and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA / "pbmc_two_studies.h5ad")
    parser.add_argument("--batch", default="batch")
    parser.add_argument("--labels", default="cell_type")
    parser.add_argument("--reference", default="zheng_facs", help="batch whose labels are shown")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--epochs", type=int, help="epochs of GeneMambaModel (default: its own)")
    parser.add_argument("--methods", nargs="+", default=["GeneMamba", "scANVI", "logistic regression"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("annotation.json"))
    arguments = parser.parse_args()
    if not arguments.data.exists():
        sys.exit(f"{arguments.data} not found; set SCGENEMAMBA_DATA or --data")
    adata = ad.read_h5ad(arguments.data)
    truth = adata.obs[arguments.labels].astype(str).to_numpy()
    is_query = (adata.obs[arguments.batch] != arguments.reference).to_numpy()
    adata.obs["shown"] = np.where(is_query, "Unknown", truth)
    predictors = {"GeneMamba": predict_genemamba, "scANVI": predict_scanvi, "logistic regression": predict_logistic}
    rows = []
    for seed in range(arguments.seeds):
        for name in arguments.methods:
            scvi.settings.seed = seed
            started = time.perf_counter()
            predicted = predictors[name](adata, is_query, arguments)
            rows.append(
                {
                    "method": name,
                    "seed": seed,
                    "accuracy": accuracy_score(truth[is_query], predicted),
                    "macro_f1": macro_f1(truth[is_query], predicted),
                    "seconds": time.perf_counter() - started,
                }
            )
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows).groupby("method", sort=False).mean().drop(columns="seed")
    print(table.round(3).to_string())
    result = {
        "command": " ".join(sys.argv),
        "device": device_name(),
        "date": time.strftime("%Y-%m-%d"),
        "data": arguments.data.name,
        "mean": table.round(4).to_dict("index"),
        "runs": rows,
        "versions": {p: version(p) for p in ("scgenemamba", "scvi-tools", "torch", "scikit-learn")},
    }
    arguments.json.write_text(json.dumps(result, indent=2))


def macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean F1 over the types of the query."""
    return float(f1_score(truth, predicted, average="macro", labels=np.unique(truth), zero_division=0))


def predict_genemamba(adata: ad.AnnData, is_query: np.ndarray, arguments: argparse.Namespace) -> np.ndarray:
    """GeneMambaModel with its defaults."""
    cells = adata.copy()
    GeneMambaModel.setup_anndata(cells, batch_key=arguments.batch, labels_key="shown")
    model = GeneMambaModel(cells, preset=arguments.preset)
    model.train(max_epochs=arguments.epochs)
    return np.asarray(model.predict(indices=np.flatnonzero(is_query)))


def predict_scanvi(adata: ad.AnnData, is_query: np.ndarray, arguments: argparse.Namespace) -> np.ndarray:
    """scANVI from scVI, on 2,000 variable genes."""
    genes = variable_genes(adata, arguments.batch)
    scvi.model.SCVI.setup_anndata(genes, batch_key=arguments.batch, labels_key="shown")
    base = scvi.model.SCVI(genes, n_layers=2, n_latent=30, gene_likelihood="nb")
    base.train()
    model = scvi.model.SCANVI.from_scvi_model(base, unlabeled_category="Unknown")
    model.train(max_epochs=20, n_samples_per_label=100)
    return np.asarray(model.predict(genes))[is_query]


def predict_logistic(adata: ad.AnnData, is_query: np.ndarray, arguments: argparse.Namespace) -> np.ndarray:
    """Logistic regression on 2,000 log-normalised variable genes."""
    genes = variable_genes(adata, arguments.batch)
    sc.pp.normalize_total(genes, target_sum=1e4)
    sc.pp.log1p(genes)
    labels = adata.obs["shown"].to_numpy()
    return LogisticRegression(max_iter=500).fit(genes.X[~is_query], labels[~is_query]).predict(genes.X[is_query])


if __name__ == "__main__":
    main()
