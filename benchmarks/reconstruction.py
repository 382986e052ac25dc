"""Hidden genes of held-out cells: the model beside guesses that need none.

    python benchmarks/reconstruction.py --data CELLS.h5ad MORE.h5ad --epochs 20
    python benchmarks/reconstruction.py --pretrained FOLDER --data CELLS.h5ad

Without `--pretrained`, a model is trained on nine tenths of each file, and the other cells are scored; `--last` trains it with
hidden genes behind the others, so that their neighbours do not give them away. A pretrained model must not have seen the files: all
of their cells but `--cells` ones, which are scored, are what the other guesses learn from. Intervals come from resampling cells.
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
from scgenemamba.metrics import reconstruction_scores

DEFAULT = ["pbmc3k.h5ad", "lung_cell_lines_5batches.h5ad"]


def trained(file: Path, arguments: argparse.Namespace) -> tuple[GeneMambaModel, dict]:
    """A model of nine tenths of the cells; what it has not seen is scored."""
    adata = ad.read_h5ad(file)
    sc.pp.filter_genes(adata, min_cells=arguments.min_cells)
    GeneMambaModel.setup_anndata(adata)
    language = {"masked_weight": 1.0, "masked_last": arguments.last}
    size = {"preset": arguments.preset, "max_tokens": arguments.max_tokens}
    model = GeneMambaModel(adata, n_decoder_genes=0, **size, **language)
    options = {"train_size": 0.9, "batch_size": arguments.batch_size, "enable_progress_bar": False}
    model.train(max_epochs=arguments.epochs, **options)
    return model, {}


def pretrained(file: Path, arguments: argparse.Namespace) -> tuple[GeneMambaModel, dict]:
    """A pretrained model, and cells of the file to score and to learn from."""
    adata = ad.read_h5ad(file)
    if arguments.gene_key:
        adata.var_names = adata.var[arguments.gene_key].astype(str)
    order = np.random.default_rng(0).permutation(adata.n_obs)
    scored, known = (adata[np.sort(rows)].copy() for rows in np.split(order, [arguments.cells]))
    return GeneMambaModel.from_pretrained(arguments.pretrained), {"adata": scored, "reference": known}


def main() -> None:
    """Score, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", default=[DATA / name for name in DEFAULT])
    parser.add_argument("--pretrained", help="folder of save_pretrained, instead of training")
    parser.add_argument("--gene-key", help="column of var with the identifiers of the pretrained model")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--max-tokens", type=int)
    parser.add_argument("--min-cells", type=int, default=20, help="leave out genes that fewer cells show, in training")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--last", action="store_true")
    parser.add_argument("--cells", type=int, default=300, help="most cells to score")
    parser.add_argument("--out", type=Path, help="CSV file for the scores")
    parser.add_argument("--cells-out", type=Path, help="CSV file for the scores of each cell")
    arguments = parser.parse_args()
    say_where()
    tables, scores = {}, {}
    for file in arguments.data:
        scvi.settings.seed = 0
        model, cells = (pretrained if arguments.pretrained else trained)(file, arguments)
        tables[file.stem] = tl.rank_reconstruction(model, n_cells=arguments.cells, **cells)
        scores[file.stem] = reconstruction_scores(tables[file.stem])
        print(f"{file.stem}\n{scores[file.stem].round(3).to_string()}", flush=True)
        leaky = tl.leaky_rank_reconstruction(
            model, cells.get("adata"), indices=None if cells else model.validation_indices
        )
        print(f"nothing hidden, as in the paper\n{leaky.round(3).to_string(index=False)}", flush=True)
        gains = scores[file.stem]["gain_low"].unstack("method").drop(columns="model")
        print(f"the model is better with 95 % confidence\n{(gains > 0).to_string()}", flush=True)
    for path, found in ((arguments.out, scores), (arguments.cells_out, tables)):
        if path:
            pd.concat(found, names=["data"]).to_csv(path)


if __name__ == "__main__":
    main()
