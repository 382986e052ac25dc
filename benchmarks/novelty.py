"""How well types that the labels lack are found: each type is left out of the labels in turn.

    python benchmarks/novelty.py --data pbmc_two_studies.h5ad --batch batch --labels cell_type --seeds 3

The encoder is trained once a seed, without labels; the annotation is fitted anew for each type, to four fifths of the cells of the
other types. Printed is the area under the ROC curve that tells the cells of the type from the last fifth of the others, by the
novelty score and by one less the largest probability. Results are kept in ``--out``, so an interrupted run goes on.
"""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scvi
from _labelled import make_parser, read

from scgenemamba import GeneMambaModel, metrics

SHOWN = "shown_label"
HELD_OUT = 0.2


def trained(adata: ad.AnnData, batch_key: str, seed: int, preset: str) -> GeneMambaModel:
    """A model of the cells, that has seen no label."""
    scvi.settings.seed = seed
    GeneMambaModel.setup_anndata(adata, batch_key=batch_key)
    model = GeneMambaModel(adata, preset=preset)
    model.train(enable_progress_bar=False)
    return model


def left_out(model: GeneMambaModel, adata: ad.AnnData, types: np.ndarray, kind: str, seed: int) -> dict[str, float]:
    """Areas under the curve for one type."""
    held_out = np.random.default_rng(seed).random(len(types)) < HELD_OUT
    adata.obs[SHOWN] = np.where(held_out | (types == kind), "Unknown", types)
    model.fit_annotation(labels_key=SHOWN)
    cells = np.flatnonzero(held_out | (types == kind))
    new = types[cells] == kind
    doubt = 1 - model.predict(indices=cells, soft=True).max(axis=1).to_numpy()
    return {
        "novelty score": metrics.novelty_auroc(new, model.novelty_score(indices=cells)),
        "1 - largest probability": metrics.novelty_auroc(new, doubt),
    }


def main() -> None:
    """Leave each type out in turn and print the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("novelty.csv"))
    arguments = parser.parse_args()
    adata = read(arguments)
    types = adata.obs[arguments.labels].astype(str).to_numpy()
    rows = pd.read_csv(arguments.out).to_dict("records") if arguments.out.exists() else []
    done = {(row["type"], row["seed"]) for row in rows}
    for seed in range(arguments.seeds):
        missing = [kind for kind in sorted(set(types)) if (kind, seed) not in done]
        if not missing:
            continue
        model = trained(adata, arguments.batch, seed, arguments.preset)
        for kind in missing:
            rows.append({"type": kind, "seed": seed, **left_out(model, adata, types, kind, seed)})
            print(rows[-1], flush=True)
            pd.DataFrame(rows).to_csv(arguments.out, index=False)
    table = pd.DataFrame(rows).drop(columns="seed").groupby("type").mean()
    table.loc["mean"] = table.mean()
    print(table.round(3).to_string())


if __name__ == "__main__":
    main()
