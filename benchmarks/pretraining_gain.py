"""What pretrained weights buy: annotation with few and with many labels, from them and from random weights.

    python benchmarks/pretraining_gain.py FOLDER --data LABELLED.h5ad --shares 0.1 0.8 --seeds 0 1 2 3 4

A share of the cells of each type keeps its labels; all other cells are annotated. The model with random weights is a new one of the
same size; both are trained with their defaults for as many epochs. Scored are ``predict()``, which reads expression beside the
embedding, the network's own classifier, a logistic regression on the embedding, and one on what summarises the cells before that
training (untuned); with ``--epochs 0`` only that.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scvi
from _labelled import say_where
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scgenemamba import GeneMambaModel
from scgenemamba.metrics import mean_interval

UNKNOWN = "Unknown"
KINDS = ("predict", "classifier", "probe", "untuned")


def show(labels: pd.Series, share: float, seed: int) -> np.ndarray:
    """Which cells keep their labels: a share of each type, two at least."""
    generator = np.random.default_rng(seed)
    shown = np.zeros(len(labels), dtype=bool)
    for label in sorted(labels.unique()):
        rows = np.flatnonzero(labels == label)
        shown[generator.permutation(rows)[: max(2, round(share * len(rows)))]] = True
    return shown


def probe(states: np.ndarray, labels: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Labels by a logistic regression on the shown cells."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)).fit(
            states[shown], labels[shown]
        )
    return fitted.predict(states)


def run(arguments: argparse.Namespace, seed: int, share: float, start: str) -> dict[str, object]:
    """One training and its scores on the cells whose labels were hidden."""
    scvi.settings.seed = seed
    adata = ad.read_h5ad(arguments.data)
    labels = adata.obs[arguments.labels].astype(str)
    adata = adata[(labels != "unlabelled").to_numpy()].copy()
    labels = adata.obs[arguments.labels].astype(str).to_numpy()
    shown = show(pd.Series(labels), share, seed)
    adata.obs["shown"] = np.where(shown, labels, UNKNOWN)
    batch = arguments.batch if arguments.batch in adata.obs and adata.obs[arguments.batch].nunique() > 1 else None
    GeneMambaModel.setup_anndata(
        adata, batch_key=batch, labels_key="shown", unlabeled_category=UNKNOWN, gene_key=arguments.gene_key
    )
    if start == "pretrained":
        model = GeneMambaModel.from_pretrained(arguments.pretrained, adata)
    else:
        size = GeneMambaModel.from_pretrained(arguments.pretrained).module.config
        model = GeneMambaModel(adata, n_layers=size.n_layers, d_model=size.d_model, max_tokens=size.max_tokens)
    # what random weights make of the cells is asked for as well
    model.is_trained_ = True
    predictions = {"untuned": probe(model.get_latent_representation(representation="pooled"), labels, shown)}
    if arguments.epochs != 0:
        model.train(max_epochs=arguments.epochs, enable_progress_bar=False)
        names = np.asarray(model.registry_["field_registries"]["labels"]["state_registry"]["categorical_mapping"])
        predictions["predict"] = np.asarray(model.predict()).astype(str)
        predictions["classifier"] = names[:-1][np.concatenate(list(classified(model, adata)))].astype(str)
        predictions["probe"] = probe(model.get_latent_representation(), labels, shown)
    found: dict[str, object] = {"data": arguments.data.stem, "seed": seed, "share": share, "start": start}
    for kind, predicted in predictions.items():
        truth, guess = labels[~shown], predicted[~shown]
        found[kind] = float(f1_score(truth, guess, average="macro"))
        found[f"{kind}_accuracy"] = float(accuracy_score(truth, guess))
    return found


def classified(model: GeneMambaModel, adata: ad.AnnData):
    """Most probable label of the network alone, a batch at a time."""
    import torch

    with torch.inference_mode():
        for batch in model._make_data_loader(adata, batch_size=128):
            on_device = {name: value.to(model.device) for name, value in batch.items()}
            yield model.module.classify(model.module(on_device)).argmax(-1).cpu().numpy()


def main() -> None:
    """All shares and seeds, from both starts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pretrained", help="folder of save_pretrained")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--labels", default="cell_type")
    parser.add_argument("--batch", default="batch")
    parser.add_argument("--gene-key", default="gene_symbol")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--starts", nargs="+", default=["random", "pretrained"])
    parser.add_argument("--epochs", type=int)
    arguments = parser.parse_args()
    say_where()
    found = []
    for share in arguments.shares:
        for seed in arguments.seeds:
            for start in arguments.starts:
                found.append(run(arguments, seed, share, start))
                print(json.dumps(found[-1]), flush=True)
    table = pd.DataFrame(found)
    for share, part in table.groupby("share"):
        for kind in (kind for kind in KINDS if kind in part):
            by_start = part.pivot(index="seed", columns="start", values=kind)
            told = ", ".join(f"{start} {mean_interval(by_start[start])}" for start in by_start)
            gain = mean_interval(by_start["pretrained"] - by_start["random"]) if by_start.shape[1] == 2 else "-"
            print(f"share {share}, {kind}: macro-F1 {told}; gain {gain}", flush=True)


if __name__ == "__main__":
    main()
