"""Whether states of genes tell genes that belong together, beside random weights, co-expression and abundance.

    python benchmarks/gene_relations.py FOLDER --cells CELLS.h5ad

FOLDER is a pretrained model. Pairs are those of Gene2vec, which come with pairs that do not belong together, and those of
Reactome, of the Gene Ontology (genes that share a set of at most 200) and of TRRUST (a factor and its target), beside as many pairs of genes that
as many cells show and that have as many partners. Genes are those that one cell in twenty shows. Intervals come from resampling genes; the
gain is over a network of the same size with random weights. A second table has the comparison of the GeneMamba paper, beside chance.
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
from scgenemamba.metrics import adjacency_jaccard, matched_gene_pairs, score_gene_pairs
from scgenemamba.tokens import pairs_of_sets, read_gene_sets

MAX_SET_SIZE, MAX_PAIRS = 200, 20_000


def known_pairs(folder: Path, symbols: pd.Index) -> dict[str, pd.DataFrame | list[tuple[str, str]]]:
    """Labelled pairs, or pairs that belong together, by source."""
    gene2vec = pd.read_csv(folder / "gene2vec_pairs.tsv.gz", sep="\t").rename(
        columns={"gene1": "gene_1", "gene2": "gene_2"}
    )
    gene2vec = gene2vec[gene2vec["gene_1"].isin(symbols) & gene2vec["gene_2"].isin(symbols)]
    trrust = pd.read_csv(folder / "trrust_human.tsv.gz", sep="\t")
    known: dict[str, pd.DataFrame | list[tuple[str, str]]] = {
        "Gene2vec": gene2vec.sample(min(len(gene2vec), MAX_PAIRS), random_state=0),
        "TRRUST": [*zip(trrust["TF"], trrust["Target"], strict=True)],
    }
    for name, file in (("Reactome", "reactome_pathways.gmt.gz"), ("GO", "go_biological_process_2023.gmt.gz")):
        sets = [symbols.get_indexer(members) for members in read_gene_sets(folder / file).values()]
        pairs = pairs_of_sets(places[places >= 0] for places in sets if len(places) <= MAX_SET_SIZE)
        chosen = np.random.default_rng(0).permutation(len(pairs))[:MAX_PAIRS]
        known[name] = [(first, second) for first, second in symbols.to_numpy()[pairs[np.sort(chosen)]]]
    return known


def paper_table(embeddings: dict[str, pd.DataFrame], genes: pd.Index) -> pd.DataFrame:
    """Jaccard index of graphs of all genes, and as in the paper of 30 random ones, beside what chance gives."""
    few = pd.Series(genes).sample(min(30, len(genes)), random_state=42)
    tables = {"all": adjacency_jaccard(embeddings), "30 random": adjacency_jaccard(embeddings, few)}
    return pd.concat(tables, names=["genes"])


def main() -> None:
    """Embed, and score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pretrained", help="folder of save_pretrained")
    parser.add_argument("--cells", type=Path, default=DATA / "pbmc_two_studies.h5ad")
    parser.add_argument("--genes", type=Path, default=DATA / "genes")
    parser.add_argument("--gene-key", default="gene_symbol")
    parser.add_argument("--n-cells", type=int, help="so many cells by chance, instead of all")
    parser.add_argument("--min-share", type=float, default=0.05)
    parser.add_argument("--out", type=Path, help="table to write")
    arguments = parser.parse_args()
    say_where()
    scvi.settings.seed = 0
    adata = ad.read_h5ad(arguments.cells)
    if arguments.n_cells:
        sc.pp.sample(adata, n=arguments.n_cells, rng=0)
    GeneMambaModel.setup_anndata(adata, gene_key=arguments.gene_key)
    model = GeneMambaModel.from_pretrained(arguments.pretrained, adata)
    least = int(arguments.min_share * adata.n_obs)
    states = {
        "contextual": tl.gene_embeddings(model, min_cells=least),
        "static": tl.gene_embeddings(model, contextual=False),
    }
    size = model.module.config
    random = GeneMambaModel(adata, n_layers=size.n_layers, d_model=size.d_model, max_tokens=size.max_tokens)
    random.to_device(model.device)
    # what random weights make of the cells is asked for as well
    random.is_trained_ = True
    states["random weights"] = tl.gene_embeddings(random, min_cells=least)
    shown = states["contextual"].obs["n_cells"]
    genes = shown.index.intersection(states["random weights"].obs_names).intersection(
        adata.var[arguments.gene_key].astype(str)
    )
    states = {name: embeddings[genes].copy() for name, embeddings in states.items()}
    similarities = {name: tl.gene_similarity(embeddings) for name, embeddings in states.items()}
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    columns = pd.Index(adata.var[arguments.gene_key].astype(str))
    first = [int(np.flatnonzero(columns == gene)[0]) for gene in genes]
    expression = adata.X[:, first].toarray()
    # distances of standardised genes are their correlations
    scaled = (expression - expression.mean(0)) / np.maximum(expression.std(0), 1e-12) / len(expression) ** 0.5
    similarities["correlation of expression"] = pd.DataFrame(scaled.T @ scaled, index=genes, columns=genes)
    abundance = np.add.outer(*[np.log(shown[genes].to_numpy())] * 2)
    similarities["abundance"] = pd.DataFrame(abundance, index=genes, columns=genes)
    tables = {}
    for name, known in known_pairs(arguments.genes, genes).items():
        pairs = known if isinstance(known, pd.DataFrame) else matched_gene_pairs(known, shown[genes])
        tables[name] = score_gene_pairs(pairs, similarities, control="random weights")
        told = tables[name][["n_pairs", *(column for column in tables[name] if column.startswith("auroc"))]]
        print(f"{name}\n{told.round(3).to_string()}", flush=True)
    embeddings = {name: table.to_df() for name, table in states.items()}
    embeddings["expression"] = pd.DataFrame(scaled.T, index=genes)
    print(f"Jaccard index\n{paper_table(embeddings, genes).round(3).to_string()}", flush=True)
    if arguments.out:
        pd.concat(tables, names=["source", "similarity"]).to_csv(arguments.out)


if __name__ == "__main__":
    main()
