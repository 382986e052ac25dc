"""Integration of a data set with batches: scIB scores of PCA, scVI and GeneMambaModel in one table.

    python benchmarks/integration.py --data pbmc_two_studies.h5ad --batch batch --labels cell_type

Labels are only used to score. The scores are those of scib-metrics without min-max scaling. Results are written as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
import torch

from scgenemamba import GeneMambaModel

DATA = Path(os.environ.get("SCGENEMAMBA_DATA", Path(__file__).parents[2] / "shared" / "data"))


def main() -> None:
    """Run and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA / "pbmc_two_studies.h5ad")
    parser.add_argument("--batch", default="batch")
    parser.add_argument("--labels", default="cell_type")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--epochs", type=int, default=16, help="epochs of GeneMambaModel")
    parser.add_argument("--scvi-epochs", type=int, default=200)
    parser.add_argument("--methods", nargs="+", default=["PCA", "scVI", "GeneMamba"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("integration.json"))
    parser.add_argument("--embeddings", type=Path, help="keep the embeddings in this .npz, and reuse those in it")
    arguments = parser.parse_args()
    if not arguments.data.exists():
        sys.exit(f"{arguments.data} not found; set SCGENEMAMBA_DATA or --data")
    scvi.settings.seed = arguments.seed
    adata = ad.read_h5ad(arguments.data)
    makers = {"PCA": embed_pca, "scVI": embed_scvi, "GeneMamba": embed_genemamba}
    kept = dict(np.load(arguments.embeddings)) if arguments.embeddings and arguments.embeddings.exists() else {}
    seconds = {}
    for name in arguments.methods:
        started = time.perf_counter()
        adata.obsm[name] = kept[name] if name in kept else makers[name](adata, arguments)
        seconds[name] = round(time.perf_counter() - started, 1)
        print(f"{name}: {seconds[name]} s", flush=True)
    if arguments.embeddings:
        np.savez(arguments.embeddings, **{**kept, **{name: adata.obsm[name] for name in arguments.methods}})
    table = score(adata, arguments)
    print(table.round(3).to_string())
    arguments.json.write_text(
        json.dumps(
            {
                "command": " ".join(sys.argv),
                "device": device_name(),
                "date": time.strftime("%Y-%m-%d"),
                "data": arguments.data.name,
                "epochs": {"GeneMamba": arguments.epochs, "scVI": arguments.scvi_epochs},
                "seconds": seconds,
                "scores": table.round(4).to_dict("index"),
                "versions": {p: version(p) for p in ("scgenemamba", "scvi-tools", "scib-metrics", "torch")},
            },
            indent=2,
        )
    )


def embed_pca(adata: ad.AnnData, arguments: argparse.Namespace) -> np.ndarray:
    """50 components of 2,000 variable genes."""
    genes = variable_genes(adata, arguments.batch)
    sc.pp.normalize_total(genes, target_sum=1e4)
    sc.pp.log1p(genes)
    sc.pp.pca(genes, n_comps=50)
    return genes.obsm["X_pca"]


def embed_scvi(adata: ad.AnnData, arguments: argparse.Namespace) -> np.ndarray:
    """scVI with 2 layers, 30 latent, negative binomial, on 2,000 variable genes."""
    genes = variable_genes(adata, arguments.batch)
    scvi.model.SCVI.setup_anndata(genes, batch_key=arguments.batch)
    model = scvi.model.SCVI(genes, n_layers=2, n_latent=30, gene_likelihood="nb")
    model.train(max_epochs=arguments.scvi_epochs)
    return model.get_latent_representation()


def embed_genemamba(adata: ad.AnnData, arguments: argparse.Namespace) -> np.ndarray:
    """GeneMambaModel with its defaults, all genes, no labels."""
    cells = adata.copy()
    GeneMambaModel.setup_anndata(cells, batch_key=arguments.batch)
    model = GeneMambaModel(cells, preset=arguments.preset)
    model.train(max_epochs=arguments.epochs)
    return model.get_latent_representation()


def variable_genes(adata: ad.AnnData, batch_key: str) -> ad.AnnData:
    """Copy of the 2,000 genes whose Pearson residuals vary most within batches."""
    genes = adata.copy()
    sc.experimental.pp.highly_variable_genes(genes, n_top_genes=2000, batch_key=batch_key, subset=True)
    return genes


def score(adata: ad.AnnData, arguments: argparse.Namespace) -> pd.DataFrame:
    """ScIB scores, unscaled."""
    from scib_metrics.benchmark import BatchCorrection, Benchmarker, BioConservation

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        benchmarker = Benchmarker(
            adata,
            batch_key=arguments.batch,
            label_key=arguments.labels,
            embedding_obsm_keys=arguments.methods,
            bio_conservation_metrics=BioConservation(),
            batch_correction_metrics=BatchCorrection(),
            n_jobs=1,
            progress_bar=False,
        )
        benchmarker.benchmark()
    table = benchmarker.get_results(min_max_scale=False).drop(index="Metric Type")
    return table.astype(float)


def device_name() -> str:
    """What the run was measured on."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU {platform.machine()}, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
