"""Do prediction sets hold the label as often as they promise, and are probabilities what they say? On cells like the others.

    python benchmarks/set_coverage.py --data pbmc_two_studies.h5ad --batch batch --labels cell_type --seeds 3

The labels of a fifth of the cells are hidden and the model trained with the rest. The hidden cells are then split into halves a
hundred times: the model is calibrated on one and judged on the other. Printed are the means over splits, and the coverage of
each label.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import scvi
from _labelled import make_parser, read

from scgenemamba import GeneMambaModel, metrics

SHOWN = "shown_label"
HIDDEN = 0.2


def resplit(
    model: GeneMambaModel,
    hidden: np.ndarray,
    types: np.ndarray,
    labels_key: str,
    coverage: float,
    n_splits: int,
    seed: int,
) -> pd.DataFrame:
    """Scores of each split of the hidden cells."""
    generator, rows = np.random.default_rng(seed), []
    for _ in range(n_splits):
        first, second = np.array_split(generator.permutation(hidden), 2)
        model.calibrate(indices=first, labels_key=labels_key)
        found = metrics.set_coverage(types[second], model.predict_sets(indices=second, coverage=coverage))
        probabilities = model.predict(indices=second, soft=True)
        rows.append(
            {
                "coverage": found.coverage,
                "labels in a set": found.mean_size,
                "calibration error": metrics.expected_calibration_error(types[second], probabilities),
                **found.per_class["coverage"].to_dict(),
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    """Train once a seed, split often, print the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--coverage", type=float, default=0.9)
    parser.add_argument("--splits", type=int, default=100)
    arguments = parser.parse_args()
    adata = read(arguments)
    types = adata.obs[arguments.labels].astype(str).to_numpy()
    tables = []
    for seed in range(arguments.seeds):
        hidden = np.random.default_rng(seed).random(len(types)) < HIDDEN
        adata.obs[SHOWN] = np.where(hidden, "Unknown", types)
        scvi.settings.seed = seed
        GeneMambaModel.setup_anndata(adata, batch_key=arguments.batch, labels_key=SHOWN)
        model = GeneMambaModel(adata, preset=arguments.preset)
        model.train(enable_progress_bar=False)
        tables.append(
            resplit(model, np.flatnonzero(hidden), types, arguments.labels, arguments.coverage, arguments.splits, seed)
        )
        print(f"seed {seed}:", tables[-1].mean().iloc[:3].round(3).to_dict(), flush=True)
    print(pd.concat(tables).mean().round(3).to_string())


if __name__ == "__main__":
    main()
