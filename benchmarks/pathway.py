"""What the pathway term does to the states of genes, to the masked-gene loss and to the speed.

    python benchmarks/pathway.py --cells CELLS.h5ad --unseen OTHER.h5ad --gene-sets reactome.gmt.gz --seeds 0 1 2

A fifth of the genes of all sets are held out: the term never hears of them. Each seed pretrains without the term, with the sets of the
other genes, and with pairs of co-expressed genes, which need no sets. Then the contextual states of each held-out gene are averaged over
the cells that express it, and the area under the ROC curve says how well their cosine similarity tells pairs of genes that share a set
from other pairs of genes that belong to sets, once in the cells of the training and once in those of OTHER. Beside it stands what
the correlation of the log-normalised expression of the same genes in the same cells tells. Sets of more than 200 genes are left out,
as the term does.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import anndata as ad
import numpy as np
import scanpy as sc
import scipy.sparse as sp
import scvi
from _labelled import DATA, say_where

from scgenemamba import GeneMambaModel
from scgenemamba.metrics import mean_interval
from scgenemamba.tokens import Vocabulary, pairs_of_sets, read_gene_sets, to_token_space, tokens_of_sets

HELD_OUT_SHARE, MAX_SET_SIZE = 0.2, 200
#: Genes that are compared are expressed by this share of the cells.
MIN_SHARE = {"": 0.003, "_common": 0.05}
TERMS = ("none", "sets", "coexpression")


def split_sets(sets: dict[str, list[str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Sets without and with only the held-out genes."""
    genes = sorted({gene for members in sets.values() for gene in members})
    held_out = set(np.random.default_rng(0).permutation(genes)[: int(HELD_OUT_SHARE * len(genes))].tolist())
    keep = lambda inside: {name: [g for g in members if (g in held_out) == inside] for name, members in sets.items()}
    return keep(False), keep(True)


def auroc(similarity: np.ndarray, genes: np.ndarray, pairs: np.ndarray) -> float:
    """Of pairs that share a set against other pairs of the genes; ``similarity`` is theirs, ``pairs`` are those of all tokens."""
    from sklearn.metrics import roc_auc_score

    place = np.full(max(genes.max(), pairs.max()) + 1, -1)
    place[genes] = np.arange(len(genes))
    known = place[pairs]
    known = known[(known >= 0).all(1)]
    together = np.zeros(similarity.shape, dtype=bool)
    together[known[:, 0], known[:, 1]] = together[known[:, 1], known[:, 0]] = True
    above = np.triu_indices(len(genes), k=1)
    return float(roc_auc_score(together[above], similarity[above]))


def cosines(states: np.ndarray) -> np.ndarray:
    """Cosine similarity of states around their mean."""
    unit = states - states.mean(0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return unit @ unit.T


def log_expression(path: Path, token_ids: np.ndarray, n_tokens: int) -> sp.csr_matrix:
    """Log-normalised expression by token, in the cells of a file whose columns have these tokens."""
    adata = ad.read_h5ad(path)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return to_token_space(adata.X, token_ids, n_tokens)


def run(arguments: argparse.Namespace, seed: int, term: str) -> dict[str, float]:
    """One pretraining and its scores."""
    scvi.settings.seed = seed
    files = {"seen": arguments.cells, "unseen": arguments.unseen}
    cells = GeneMambaModel.setup_files(
        arguments.cells,
        gene_key=arguments.gene_key,
        batch_size=arguments.batch_size,
        held_out=0.05,
        validation=files,
    )
    sets = {
        name: members for name, members in read_gene_sets(arguments.gene_sets).items() if len(members) <= MAX_SET_SIZE
    }
    training, held_out = split_sets(sets)
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
        gene_sets={"none": None, "sets": training, "coexpression": "coexpression"}[term],
        pathway_weight=arguments.weight,
        check_val_every_n_epoch=arguments.epochs,
        enable_progress_bar=False,
        plan_kwargs={"lr": arguments.lr} if arguments.lr else {},
    )
    found: dict[str, float] = {"seed": seed, "term": term, "seconds": time.perf_counter() - started}
    if arguments.save:
        model.save_pretrained(arguments.save)
    pairs = {
        name: pairs_of_sets(tokens_of_sets({k: v for k, v in of.items() if v}, model.vocabulary).values())
        for name, of in (("held_out", held_out), ("training", training))
    }
    for loader, (name, path) in zip(cells.val_dataloader()[1:], files.items(), strict=True):
        found_states, n_cells = model.get_contextual_gene_embeddings(dataloader=loader)
        # by token, with the special ones
        states = np.pad(found_states.to_numpy(), ((Vocabulary.FIRST_GENE, 0), (0, 0)))
        share = np.pad(n_cells / cells.validation[name].n_cells, (Vocabulary.FIRST_GENE, 0))
        expression = log_expression(path, cells.validation[name].sources[0].token_ids, model.vocabulary.n_tokens)
        for kind, least in MIN_SHARE.items():
            genes = np.unique(pairs["held_out"])
            genes = genes[share[genes] >= least]
            found[f"auroc_{name}{kind}"] = auroc(cosines(states[genes]), genes, pairs["held_out"])
            known = np.corrcoef(expression[:, genes].toarray(), rowvar=False)
            found[f"correlation_{name}{kind}"] = auroc(known, genes, pairs["held_out"])
            found[f"n_genes_{name}{kind}"] = len(genes)
        genes = np.unique(pairs["training"])
        genes = genes[share[genes] >= MIN_SHARE[""]]
        found[f"auroc_{name}_training"] = auroc(cosines(states[genes]), genes, pairs["training"])
    for name in ("", "_unseen"):
        found[f"loss{name}"] = float(model.history[f"masked_genes_validation{name}"].iloc[-1, 0])
    return found


def main() -> None:
    """All seeds, without and with the term."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=Path, default=DATA / "human_unlabelled_mix.h5ad")
    parser.add_argument("--unseen", type=Path, default=DATA / "pbmc_two_studies.h5ad")
    parser.add_argument("--gene-sets", type=Path, default=DATA / "genes" / "reactome_pathways.gmt.gz")
    parser.add_argument("--gene-key", default="gene_symbol")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--max-tokens", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--mask-rate", type=float, default=0.15)
    parser.add_argument("--last", action="store_true", help="hidden genes behind the others (masked_last)")
    parser.add_argument("--terms", choices=TERMS, nargs="+", default=TERMS)
    parser.add_argument("--weight", type=float, default=0.1)
    parser.add_argument("--save", type=Path, help="folder for the last model")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    say_where()
    found = []
    for seed in arguments.seeds:
        for term in arguments.terms:
            found.append(run(arguments, seed, term))
            print(json.dumps(found[-1]), flush=True)
    for term in arguments.terms:
        rows = [row for row in found if row["term"] == term]
        scores = {name: mean_interval([row[name] for row in rows]) for name in rows[0] if name not in ("seed", "term")}
        print(f"{term}: " + ", ".join(f"{name} {value}" for name, value in scores.items()), flush=True)


if __name__ == "__main__":
    main()
