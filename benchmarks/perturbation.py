"""How well, and how cheaply, deletions of all genes are predicted.

    python benchmarks/perturbation.py --model FOLDER

Every deletion of each of some cells is read exactly, and predicted from windows of several widths. Printed are, over cells: the share of
the 50 largest exact effects among the 50 largest predictions, rank correlation over all expressed genes, the cost of screening and of
screening with 50 genes read exactly, in forward passes (by tokens) and in seconds, each as the factor by which exact reading costs
more. The cells with the worst predictions are named, and the gene that is missed by most.

FOLDER was written by ``model.save`` for these cells; without it, a model is trained on them.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scvi
import torch
from _labelled import DATA, say_where
from scipy.stats import spearmanr

from scgenemamba import GeneMambaModel, tl

TOP = 50


def trained(adata: ad.AnnData, arguments: argparse.Namespace) -> GeneMambaModel:
    """Model of the cells."""
    if arguments.model:
        return GeneMambaModel.load(arguments.model, adata)
    GeneMambaModel.setup_anndata(adata, labels_key=arguments.labels, unlabeled_category=arguments.unlabelled)
    model = GeneMambaModel(adata, preset=arguments.preset, max_tokens=arguments.max_tokens)
    model.train(max_epochs=arguments.epochs)
    return model


def timed(model: GeneMambaModel, adata: ad.AnnData, cells: list[int], **asked: object) -> tuple[ad.AnnData, float]:
    """Perturbed cells, and seconds."""
    start = time.perf_counter()
    found = tl.perturb(model, adata, indices=cells, n_checked=0, **asked)
    return found, time.perf_counter() - start


def compared(exact: ad.AnnData, fast: ad.AnnData) -> pd.DataFrame:
    """Quality of predictions by cell."""
    rows = []
    for name in exact.obs_names:
        shown = exact[name].X.indices
        truth, guess = (np.abs(some[name].layers["distance"][:, shown].toarray()[0]) for some in (exact, fast))
        first, second = (np.argsort(-values, kind="stable")[:TOP] for values in (truth, guess))
        missed = first[~np.isin(first, second)]
        worst = exact.var_names[shown[missed[0]]] if len(missed) else ""
        row = {"cell": name, "n_genes": len(shown), "recall": np.isin(first, second).mean()}
        rows.append(row | {"spearman": spearmanr(truth, guess).statistic, "missed": worst})
    return pd.DataFrame(rows)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder of model.save")
    parser.add_argument("--cells", type=Path, default=DATA / "pbmc3k.h5ad")
    parser.add_argument("--labels", default="cell_type")
    parser.add_argument("--unlabelled", default="unlabelled")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--max-tokens", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--n-cells", type=int, default=50)
    parser.add_argument("--windows", type=int, nargs="+", default=[2, 4, 6, 8])
    parser.add_argument("--matmul-precision", default="highest", help="'high' lets GPUs multiply in TF32")
    parser.add_argument(
        "--without-exact", action="store_true", help="time the fast method on all --n-cells, and nothing else"
    )
    arguments = parser.parse_args()
    say_where()
    scvi.settings.seed = 0
    torch.set_float32_matmul_precision(arguments.matmul_precision)
    adata = ad.read_h5ad(arguments.cells)
    model = trained(adata, arguments)
    cells = np.sort(np.random.default_rng(0).permutation(adata.n_obs)[: arguments.n_cells]).tolist()
    timed(model, adata, cells[:2], n_rescored=TOP)
    if arguments.without_exact:
        fast, seconds = timed(model, adata, cells, n_rescored=TOP, window=arguments.windows[0])
        passes = fast.uns["perturbation"]["n_forwards"]
        print(
            f"{len(cells):,} cells, {fast.X.nnz:,} deletions in {seconds:.1f} s, {TOP} a cell read exactly, {passes:,.0f} passes"
        )
        return
    exact, exact_seconds = timed(model, adata, cells, method="exact")
    n_exact = exact.uns["perturbation"]["n_exact"]
    expressed = exact.X.nnz
    print(
        f"{len(cells)} cells, {expressed:,} deletions, {n_exact:,} of genes that are read: {exact_seconds:.1f} s exactly"
    )
    for window in arguments.windows:
        screened, seconds = timed(model, adata, cells, n_rescored=0, window=window)
        rescored, seconds_2 = timed(model, adata, cells, n_rescored=TOP, window=window)
        quality = compared(exact, screened)
        passes = [some.uns["perturbation"]["n_forwards"] for some in (screened, rescored)]
        worst = quality.sort_values("recall").head(3)[["cell", "recall", "missed"]].to_numpy().tolist()
        print(
            f"window {window}: recall@{TOP} {quality['recall'].mean():.3f} (least {quality['recall'].min():.2f}), "
            f"Spearman {quality['spearman'].mean():.4f} (least {quality['spearman'].min():.4f}); "
            f"cheaper by passes {expressed / passes[0]:.0f} (genes that are read {n_exact / passes[0]:.0f}), with {TOP} read exactly "
            f"{expressed / passes[1]:.1f} ({n_exact / passes[1]:.1f}); by seconds {exact_seconds / seconds:.0f}, {exact_seconds / seconds_2:.1f}; "
            f"worst {worst}",
            flush=True,
        )


if __name__ == "__main__":
    main()
