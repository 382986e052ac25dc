"""What becomes of a cell type that one batch lacks: its purity with the type taken out of one batch, and without.

    python benchmarks/confounding.py --data pbmc_two_studies.h5ad --from zheng_facs --seeds 3

Purity is the share of the 15 nearest neighbours in the latent that have the same type, over the cells of that type in the other
batches. Every type that the batch shares with others is taken out in turn and the model trained anew.
"""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scvi
from _labelled import make_parser, read
from sklearn.neighbors import NearestNeighbors

from scgenemamba import GeneMambaModel

NEIGHBOURS = 15


def latent(adata: ad.AnnData, batch_key: str, seed: int, preset: str, alignment_weight: float | None) -> np.ndarray:
    """Latents of a model trained on these cells."""
    scvi.settings.seed = seed
    GeneMambaModel.setup_anndata(adata, batch_key=batch_key)
    weight = {} if alignment_weight is None else {"alignment_weight": alignment_weight}
    model = GeneMambaModel(adata, preset=preset, **weight)
    model.train(enable_progress_bar=False)
    return model.get_latent_representation()


def purity(z: np.ndarray, types: np.ndarray, kind: str) -> float:
    """Share of the neighbours of the cells of a type that are of that type."""
    cells = np.flatnonzero(types == kind)
    nearest = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(z).kneighbors(z[cells], return_distance=False)[:, 1:]
    return float((types[nearest] == kind).mean())


def main() -> None:
    """Train with and without each type and print the purities."""
    parser = make_parser(__doc__)
    parser.add_argument("--from", dest="lacking", default="zheng_facs", help="batch that the types are taken out of")
    parser.add_argument(
        "--types", nargs="+", help="types to take out; all that the batch shares with others by default"
    )
    parser.add_argument("--alignment-weight", type=float)
    parser.add_argument("--out", type=Path, default=Path("confounding.csv"))
    arguments = parser.parse_args()
    adata = read(arguments)
    types = adata.obs[arguments.labels].astype(str).to_numpy()
    lacking = (adata.obs[arguments.batch] == arguments.lacking).to_numpy()
    shared = arguments.types or sorted(set(types[lacking]) & set(types[~lacking]))
    fit = {"batch_key": arguments.batch, "preset": arguments.preset, "alignment_weight": arguments.alignment_weight}
    rows = []
    for seed in range(arguments.seeds):
        full = latent(adata.copy(), seed=seed, **fit)
        for kind in shared:
            kept = ~(lacking & (types == kind))
            # the same cells are neighbours in both, so only the training differs
            before = purity(full[kept], types[kept], kind)
            after = purity(latent(adata[kept].copy(), seed=seed, **fit), types[kept], kind)
            rows.append({"type": kind, "seed": seed, "present": before, "taken out": after, "fall": before - after})
            print(f"seed {seed}, {kind}: {before:.3f} -> {after:.3f}", flush=True)
            pd.DataFrame(rows).to_csv(arguments.out, index=False)
    print(pd.DataFrame(rows).groupby("type")[["present", "taken out", "fall"]].mean().round(3).to_string())


if __name__ == "__main__":
    main()
