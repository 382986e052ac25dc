"""What the pathway term does to the states of genes, to the masked-gene loss and to the speed.

    python benchmarks/pathway.py --cells CELLS.h5ad --unseen OTHER.h5ad --gene-sets reactome.gmt.gz --seeds 0 1 2

A fifth of the genes of all sets are held out: the term never hears of them. Each seed pretrains with and without the term. Then
the contextual states of each held-out gene are averaged over the cells of OTHER that express it, and the area under the ROC curve
says how well their cosine similarity tells pairs of genes that share a set from other pairs of genes that belong to sets: of all
that 20 cells express, and of those that one cell in twenty does (common).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import scvi
import torch
from _labelled import DATA, say_where

from scgenemamba import GeneMambaModel
from scgenemamba.metrics import mean_interval
from scgenemamba.tokens import pairs_of_sets, read_gene_sets, tokens_of_sets

HELD_OUT_SHARE, MIN_CELLS = 0.2, 20


def split_sets(sets: dict[str, list[str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Sets without and with only the held-out genes."""
    genes = sorted({gene for members in sets.values() for gene in members})
    held_out = set(np.random.default_rng(0).permutation(genes)[: int(HELD_OUT_SHARE * len(genes))].tolist())
    keep = lambda inside: {name: [g for g in members if (g in held_out) == inside] for name, members in sets.items()}
    return keep(False), keep(True)


@torch.inference_mode()
def gene_states(model: GeneMambaModel, cells, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """Mean state of each token ``(n_tokens, d)`` and how many cells express it."""
    module, config = model.module.to(device).eval(), model.module.config
    total = torch.zeros(config.n_tokens, config.d_model, dtype=torch.float64, device=device)
    count = torch.zeros(config.n_tokens, dtype=torch.float64, device=device)
    for batch in cells:
        encoded = module({name: value.to(device) for name, value in batch.items()})
        ids = encoded.tokens.long()
        total.index_add_(0, ids, encoded.hidden.double())
        count.index_add_(0, ids, torch.ones_like(ids, dtype=torch.float64))
    return (total / count.clamp(min=1).unsqueeze(1)).cpu().numpy(), count.cpu().numpy()


def auroc(
    states: np.ndarray, count: np.ndarray, sets: dict[str, np.ndarray], least: int = MIN_CELLS
) -> tuple[float, int]:
    """Of pairs that share a set against other pairs, among genes that enough cells express."""
    from sklearn.metrics import roc_auc_score

    members = np.unique(np.concatenate(list(sets.values())))
    genes = members[count[members] >= least]
    unit = states[genes] - states[genes].mean(0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    together = np.zeros((states.shape[0],) * 2, dtype=bool)
    pairs = pairs_of_sets(sets.values())
    together[pairs[:, 0], pairs[:, 1]] = True
    first, second = np.triu_indices(len(genes), k=1)
    return float(roc_auc_score(together[genes[first], genes[second]], (unit @ unit.T)[first, second])), len(genes)


def small_sets(sets: dict[str, list[str]], model: GeneMambaModel) -> dict[str, np.ndarray]:
    """Tokens of the sets that say something of two of their genes."""
    known = tokens_of_sets({name: members for name, members in sets.items() if members}, model.vocabulary)
    return {name: tokens for name, tokens in known.items() if len(tokens) <= 200}


def run(arguments: argparse.Namespace, seed: int, weight: float) -> dict[str, float]:
    """One pretraining and its scores."""
    scvi.settings.seed = seed
    cells = GeneMambaModel.setup_files(
        arguments.cells,
        gene_key=arguments.gene_key,
        batch_size=arguments.batch_size,
        held_out=0.05,
        validation={"unseen": arguments.unseen},
    )
    training, held_out = split_sets(dict(read_gene_sets(arguments.gene_sets)))
    positives = "coexpression" if arguments.coexpression else training
    model = GeneMambaModel(
        registry=cells.registry,
        preset=arguments.preset,
        max_tokens=arguments.max_tokens,
        masked_weight=1.0,
        masked_last=arguments.last,
        mask_rate=arguments.mask_rate,
    )
    started = time.perf_counter()
    model.train(
        datamodule=cells,
        max_epochs=arguments.epochs,
        gene_sets=positives if weight else None,
        pathway_weight=weight,
        check_val_every_n_epoch=arguments.epochs,
        enable_progress_bar=False,
        plan_kwargs={"lr": arguments.lr} if arguments.lr else {},
    )
    seconds = time.perf_counter() - started
    states, count = gene_states(model, cells.val_dataloader()[-1], model.device)
    if arguments.save:
        model.save_pretrained(arguments.save)
    score, n_genes = auroc(states, count, small_sets(held_out, model))
    of_training, _ = auroc(states, count, small_sets(training, model))
    n_cells = cells.validation["unseen"].n_cells
    of_common, n_common = auroc(states, count, small_sets(held_out, model), n_cells // 20)
    loss = {
        name: float(model.history[f"masked_genes_validation{suffix}"].iloc[-1, 0])
        for name, suffix in (("loss", ""), ("loss_unseen", "_unseen"))
    }
    return {
        "seed": seed,
        "weight": weight,
        "auroc": score,
        "auroc_common": of_common,
        "n_common": n_common,
        "n_genes": n_genes,
        "auroc_training": of_training,
        **loss,
        "seconds": seconds,
    }


def main() -> None:
    """All seeds, with and without the term."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=Path, default=DATA / "human_unlabelled_mix.h5ad")
    parser.add_argument("--unseen", type=Path, default=DATA / "pbmc_two_studies.h5ad")
    parser.add_argument("--gene-sets", type=Path, default=DATA / "genes" / "reactome_pathways.gmt.gz")
    parser.add_argument("--gene-key", default="gene_symbol")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--max-tokens", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--mask-rate", type=float, default=0.15)
    parser.add_argument("--last", action="store_true", help="hidden genes behind the others (masked_last)")
    parser.add_argument("--coexpression", action="store_true", help="pairs of co-expressed genes instead of the sets")
    parser.add_argument("--save", type=Path, help="folder for the last model")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 0.1])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    say_where()
    found = []
    for seed in arguments.seeds:
        for weight in arguments.weights:
            found.append(run(arguments, seed, weight))
            print(json.dumps(found[-1]), flush=True)
    for weight in arguments.weights:
        rows = [row for row in found if row["weight"] == weight]
        scores = {
            name: mean_interval([row[name] for row in rows])
            for name in ("auroc", "auroc_common", "auroc_training", "loss", "loss_unseen", "seconds")
        }
        print(f"weight {weight}: " + ", ".join(f"{name} {value}" for name, value in scores.items()), flush=True)


if __name__ == "__main__":
    main()
