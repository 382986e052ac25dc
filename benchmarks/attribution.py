"""Whether attributions are complete, depend on what was learnt, and name the marker genes that another study names.

    python benchmarks/attribution.py --model FOLDER

FOLDER is a model of `model.save`, trained on the cells with the labels `cell_type`; without it one is trained. The likeliest label of some
cells of each type is explained. Markers are the genes that `sc.tl.rank_genes_groups` puts first among the cells that Zheng et al. sorted
(2017, batch `zheng_facs` of the other file), for the types that were sorted there: `--truth fine` takes its purest populations, `broad` types of
several. Genes that the other study lacks count as misses.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
from _labelled import DATA, say_where

from scgenemamba import GeneMambaModel, tl

FINE = {
    "Naive CD4 T": "CD4+/CD45RA+/CD25- Naive T",
    "Memory CD4 T": "CD4+/CD45RO+ Memory",
    "CD14+ Mono": "CD14+ Monocyte",
    "B": "CD19+ B",
    "CD8 T": "CD8+ Cytotoxic T",
    "NK": "CD56+ NK",
}
BROAD = {
    "Naive CD4 T": "CD4 T cell",
    "Memory CD4 T": "CD4 T cell",
    "CD14+ Mono": "CD14+ monocyte",
    "B": "B cell",
    "CD8 T": "CD8 T cell",
    "NK": "NK cell",
}
TRUTHS = {"fine": ("cell_type_fine", FINE), "broad": ("cell_type", BROAD)}
N_TOP, N_MARKERS = 20, 100


def trained(adata: ad.AnnData, folder: Path | None) -> GeneMambaModel:
    """The model of the folder, or a new one."""
    if folder is not None:
        return GeneMambaModel.load(folder, adata)
    GeneMambaModel.setup_anndata(adata, labels_key="cell_type", unlabeled_category="unlabelled")
    model = GeneMambaModel(adata)
    model.train()
    return model


def markers(path: Path, column: str, method: str) -> pd.DataFrame:
    """Genes of each type of the sorted cells, the best first."""
    cells = ad.read_h5ad(path)
    cells = cells[cells.obs["batch"] == "zheng_facs"].copy()
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    cells.obs[column] = cells.obs[column].cat.remove_unused_categories()
    sc.tl.rank_genes_groups(cells, column, method=method)
    return sc.get.rank_genes_groups_df(cells, group=None)


def found(genes: pd.DataFrame, table: pd.DataFrame, names: dict[str, str]) -> pd.Series:
    """How many of the first genes of each type are among the markers of that type."""
    counts = {}
    for own, other in names.items():
        top = genes[genes["group"] == own].nlargest(N_TOP, "attribution")["gene"]
        best = table[table["group"] == other].nlargest(N_MARKERS, "scores")["names"]
        counts[own] = int(top.isin(best).sum())
    return pd.Series(counts)


def expressed(adata: ad.AnnData, method: str) -> pd.DataFrame:
    """Genes that the same cells express differently, as a table of attributions: what there is to be reached."""
    cells = adata.copy()
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    sc.tl.rank_genes_groups(cells, "cell_type", method=method)
    table = sc.get.rank_genes_groups_df(cells, group=None)
    return table.rename(columns={"names": "gene", "scores": "attribution"})


def main() -> None:
    """Attribute, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of model.save, instead of training")
    parser.add_argument("--data", type=Path, default=DATA / "pbmc3k.h5ad")
    parser.add_argument("--other", type=Path, default=DATA / "pbmc_two_studies.h5ad")
    parser.add_argument("--n-cells", type=int, default=50, help="of each type")
    parser.add_argument("--n-steps", type=int, default=20)
    parser.add_argument("--n-checked", type=int, default=5, help="cells of each type for shuffled weights")
    parser.add_argument("--baseline", default="mask")
    parser.add_argument("--method", default="wilcoxon")
    parser.add_argument("--out", type=Path, help="attributions to write")
    arguments = parser.parse_args()
    say_where()
    scvi.settings.seed = 0
    adata = ad.read_h5ad(arguments.data)
    model = trained(adata, arguments.model)
    ours = {"groupby": "cell_type", "n_steps": arguments.n_steps, "baseline": arguments.baseline}
    known = np.flatnonzero(adata.obs["cell_type"].isin(model.labels))
    attributions = tl.attribute(model, adata, indices=known, max_cells=arguments.n_cells, **ours)
    if arguments.out:
        attributions.write_h5ad(arguments.out)
    error = attributions.obs["attribution_error"]
    agree = (attributions.obs["cell_type"].astype(str) == attributions.obs["attribution_target"].astype(str)).mean()
    print(
        f"{len(error)} cells, {agree:.1%} of them predicted as labelled; {(error <= 0.01).mean():.1%} complete within 1 %,"
    )
    print(
        f"worst {error.max():.2%}, mean {error.mean():.3%}; steps {attributions.obs['attribution_steps'].value_counts().to_dict()}"
    )
    genes = tl.attributed_genes(attributions, "cell_type")
    expression = expressed(adata[attributions.obs_names].copy(), arguments.method)
    for truth, (column, names) in TRUTHS.items():
        table = markers(arguments.other, column, arguments.method)
        counts = pd.DataFrame({"attributed": found(genes, table, names), "expressed": found(expression, table, names)})
        counts.loc["mean"] = counts.mean()
        print(
            f"of {N_TOP} genes among the first {N_MARKERS} of sorted cells, {truth} types\n{counts.round(2).to_string()}",
            flush=True,
        )
    check = tl.attribution_check(model, adata, indices=known, max_cells=arguments.n_checked, **ours)
    print(
        f"shuffled weights, {len(check)} cells\n{check.describe().loc[['mean', 'std', 'min', 'max']].round(3).to_string()}"
    )


if __name__ == "__main__":
    main()
