"""Whether what a model makes of two deleted genes is more than simple guesses from one.

    python benchmarks/perturbed_pairs.py --model FOLDER --label B

Pairs of the genes that most change the probability of the label in its cells are deleted, one by one and together. What two do together is guessed
as nothing (no change), as the mean of all pairs (mean shift) and as the sum of both genes alone (additive). Printed are, over pairs, the error of each
guess relative to no change, and its correlation with the effect: where the sum says it all, the model knows of no interaction.

FOLDER was written by ``model.save`` for these cells.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scvi
from _labelled import DATA, say_where

from scgenemamba import GeneMambaModel, tl

MIN_SHARE = 0.3


def main() -> None:
    """Delete, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of model.save")
    parser.add_argument("--cells", type=Path, default=DATA / "pbmc3k.h5ad")
    parser.add_argument("--labels", default="cell_type")
    parser.add_argument("--label", default="B")
    parser.add_argument("--n-cells", type=int, default=50)
    parser.add_argument("--n-genes", type=int, default=12)
    arguments = parser.parse_args()
    say_where()
    scvi.settings.seed = 0
    adata = ad.read_h5ad(arguments.cells)
    model = GeneMambaModel.load(arguments.model, adata)
    cells = np.flatnonzero(adata.obs[arguments.labels] == arguments.label)[: arguments.n_cells]
    every = tl.perturb(model, adata, label=arguments.label, indices=cells, n_checked=0)
    effects = tl.perturbation_effects(every, min_cells=int(MIN_SHARE * len(cells)))
    genes = effects["gene"][: arguments.n_genes].tolist()
    names = {gene: [gene] for gene in genes} | {f"{a}+{b}": [a, b] for a, b in combinations(genes, 2)}
    found = tl.perturb(model, adata, names, label=arguments.label, indices=cells, n_controls=0)
    change = found.to_df("probability")
    # a pair is compared in the cells that express both
    rows = []
    for a, b in combinations(genes, 2):
        shown = np.zeros(len(change), dtype=bool)
        shown[found[:, f"{a}+{b}"].layers["probability"].tocoo().row] = True
        pair = change[f"{a}+{b}"][shown]
        rows.append({"pair": pair.mean(), "additive": (change[a] + change[b])[shown].mean()})
    table = pd.DataFrame(rows).assign(**{"no change": 0.0})
    table["mean shift"] = table["pair"].mean()
    scale = np.sqrt((table["pair"] ** 2).mean())
    print(f"{len(table)} pairs of {len(genes)} genes in {len(cells)} cells of {arguments.label}: {', '.join(genes)}")
    for name in ("no change", "mean shift", "additive"):
        error = np.sqrt(((table[name] - table["pair"]) ** 2).mean()) / scale
        spread = table[name].std() > 0
        correlation = f"{np.corrcoef(table[name], table['pair'])[0, 1]:.3f}" if spread else "-"
        print(f"{name}: error {error:.3f} of that of no change, correlation {correlation}")


if __name__ == "__main__":
    main()
