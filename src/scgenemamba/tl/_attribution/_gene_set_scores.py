"""Attributions of genes, summed up over gene sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scgenemamba.tokens import name_some, read_gene_sets

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from scgenemamba.tokens import GeneSets


def gene_set_scores(
    attributed: pd.DataFrame,
    gene_sets: str | Path | GeneSets | Iterable[str | Path],
    *,
    min_size: int = 5,
    max_size: int = 500,
    n_permutations: int = 1000,
    random_state: int = 0,
    silent: bool = False,
) -> pd.DataFrame:
    """Score gene sets by the attributions of their genes, by gene set enrichment of the ranked list (Subramanian et al. 2005, PNAS).

    The list of a group is all genes of its rows, by ``attribution``: give :func:`attributed_genes` without ``n_genes``. The p-values come
    from sets of random genes.

    Parameters
    ----------
    attributed
        Table from :func:`attributed_genes`: columns ``group``, ``gene`` and ``attribution``.
    gene_sets
        File ``.gmt`` or ``.gmt.gz``, several of them, or genes by name of the set, with the names that the table has.
    min_size, max_size
        Sets with fewer or more genes in the list are left out.
    n_permutations
        Random sets.
    random_state
        Seed of the random sets.
    silent
        Show no progress bar.

    Returns
    -------
    Table with a row for each group and set, in order of ``nes`` within each group: ``group``, ``set``, ``nes`` (enrichment score over the
    mean of the random sets; positive for sets that speak for the target), ``p``, ``fdr``, ``n_genes`` (genes of the set in the list) and
    ``leading_genes`` (those that make the score, joined by ``";"``).

    Raises
    ------
    ImportError
        If gseapy is not installed.
    KeyError
        If the table lacks a column.
    ValueError
        If no set has so many genes in the list of any group, or an argument is out of range.
    """
    try:
        from gseapy import prerank
    except ImportError as error:
        msg = "Scores of gene sets need gseapy: pip install 'scgenemamba[interpret]'."
        raise ImportError(msg) from error
    from tqdm.auto import tqdm

    _check(attributed, min_size, max_size, n_permutations)
    sets = {name: sorted(set(genes)) for name, genes in read_gene_sets(gene_sets).items()}
    sizes = {"min_size": min_size, "max_size": max_size}
    quiet = {"threads": 1, "outdir": None, "no_plot": True, "verbose": False}
    groups = list(attributed.groupby("group", observed=True, sort=False))
    parts = []
    for group, table in tqdm(groups, desc="Scoring gene sets", unit="group", disable=silent):
        ranked = table.set_index(table["gene"].astype(str))["attribution"].sort_values(ascending=False, kind="stable")
        fitting = _fitting(sets, ranked.index, **sizes)
        if fitting:
            drawn = {"permutation_num": n_permutations, "seed": random_state}
            found = prerank(rnk=ranked, gene_sets=fitting, **sizes, **drawn, **quiet).res2d
            parts.append(_tidy(found, fitting).assign(group=group))
    if not parts:
        known = name_some(attributed["gene"].unique())
        msg = f"No gene set has {min_size} to {max_size} of the genes of a group, such as {known}: do the names fit, or lower `min_size`."
        raise ValueError(msg)
    table = pd.concat(parts, ignore_index=True)
    if isinstance(attributed["group"].dtype, pd.CategoricalDtype):
        table["group"] = pd.Categorical(table["group"], categories=attributed["group"].cat.categories)
    return table[["group", "set", "nes", "p", "fdr", "n_genes", "leading_genes"]]


def _check(attributed: pd.DataFrame, min_size: int, max_size: int, n_permutations: int) -> None:
    missing = [column for column in ("group", "gene", "attribution") if column not in attributed]
    if missing:
        msg = f"The table has no column {name_some(missing)}: give the one that attributed_genes returns."
        raise KeyError(msg)
    if not 1 <= min_size <= max_size:
        msg = f"`min_size` must be from 1 to `max_size`, got {min_size} and {max_size}."
        raise ValueError(msg)
    if n_permutations < 1:
        msg = f"`n_permutations` must be at least 1, got {n_permutations}."
        raise ValueError(msg)
    twice = attributed.loc[attributed.duplicated(["group", "gene"]), "gene"]
    if len(twice):
        msg = f"Genes occur more than once in a group: {name_some(twice.unique())}."
        raise ValueError(msg)


def _fitting(sets: dict[str, list[str]], genes: pd.Index, min_size: int, max_size: int) -> dict[str, list[str]]:
    """Sets cut to the genes of the list, those of a size that is wanted."""
    listed = set(genes)
    cut = {name: [gene for gene in members if gene in listed] for name, members in sets.items()}
    return {name: members for name, members in cut.items() if min_size <= len(members) <= max_size}


def _tidy(found: pd.DataFrame, sets: dict[str, list[str]]) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "set": found["Term"].astype(str),
            "nes": found["NES"].astype(np.float64),
            "p": found["NOM p-val"].astype(np.float64),
            "fdr": found["FDR q-val"].astype(np.float64),
            "n_genes": [len(sets[name]) for name in found["Term"].astype(str)],
            "leading_genes": found["Lead_genes"].astype(str),
        }
    )
    return table.sort_values("nes", ascending=False, kind="stable", ignore_index=True)
