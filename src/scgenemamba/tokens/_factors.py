"""Read rank normalisation factors of genes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ._gene_map import RULES, map_genes
from ._plain_pickle import read_plain_pickle
from ._vocabulary import Vocabulary

_GENE_COLUMNS = (
    "ensembl_id",
    "ensembl_ids",
    "ensembl",
    "gene_id",
    "gene_ids",
    "gene",
    "genes",
    "gene_name",
    "gene_symbol",
    "symbol",
    "feature_id",
    "feature",
    "feature_name",
    "index",
)
_FACTOR_COLUMNS = ("nonzero_median", "nonzero_medians", "median", "medians", "factor", "factors")
_N_SHOWN = 5


def read_factors(
    source: str | os.PathLike[str] | Mapping[str, float] | pd.Series, vocabulary: Vocabulary
) -> npt.NDArray[np.float64]:
    """Factors of the vocabulary's genes, from a file or a mapping.

    Parameters
    ----------
    source
        Mapping or series, gene to factor; or a file: ``.tsv``, ``.csv`` (also ``.gz``) or ``.parquet`` with a
        column of genes and one of factors, ``.json`` or ``.pkl``/``.pickle`` with a mapping, such as
        Geneformer's dictionary of medians. Of pickles only plain dictionaries of numbers are read; nothing
        in them is executed.
    vocabulary
        Genes in token order. Matched through :func:`map_genes`; where several entries lead to one gene, that
        of the strongest rule counts.

    Returns
    -------
    float64, shape ``(len(vocabulary),)``; NaN for genes without a finite, positive factor.

    Raises
    ------
    ValueError
        If the columns cannot be told, a factor is no number, a gene has two different factors, none is finite
        and positive, or none of the genes is in the vocabulary.
    ImportError
        If parquet cannot be read here.
    """
    if isinstance(source, pd.Series):
        factors = source
    else:
        factors = _series(source) if isinstance(source, Mapping) else _read(Path(source))
    values = _numbers(factors)
    values = values.where(np.isfinite(values) & (values > 0))
    if values.notna().sum() == 0:
        msg = f"None of the {len(values):,} factors is a finite, positive number."
        raise ValueError(msg)
    return _aligned(values.dropna(), vocabulary)


def _aligned(values: pd.Series, vocabulary: Vocabulary) -> npt.NDArray[np.float64]:
    """Factors in token order; of several for one gene that of the strongest rule."""
    distinct = values[~(values.index.duplicated() & values.groupby(level=0).transform("nunique").eq(1))]
    if distinct.index.has_duplicates:
        twice = distinct.index[distinct.index.duplicated()].unique()
        msg = f"{len(twice):,} genes have several different factors, such as {', '.join(map(str, twice[:_N_SHOWN]))}."
        raise ValueError(msg)
    gene_map = map_genes(distinct.index, vocabulary)
    strength = np.array([RULES.index(rule) for rule in gene_map.rules])
    found = np.flatnonzero(gene_map.token_ids >= 0)
    if len(found) == 0:
        msg = (
            f"None of the {len(distinct):,} genes with a factor ({', '.join(map(str, distinct.index[:_N_SHOWN]))}...) "
            f"is in the vocabulary ({', '.join(vocabulary.genes[:_N_SHOWN])}...)."
        )
        raise ValueError(msg)
    aligned = np.full(len(vocabulary), np.nan)
    # weakest first, so that the strongest, and of equal ones the first, is written last
    order = found[np.lexsort((-found, -strength[found]))]
    for i in order:
        aligned[gene_map.token_ids[i] - vocabulary.FIRST_GENE] = distinct.iloc[i]
    return aligned


def _read(path: Path) -> pd.Series:
    kind = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    if kind in ("tsv", "csv"):
        return _from_table(pd.read_csv(path, sep="\t" if kind == "tsv" else ",", dtype=str), path)
    if kind == "parquet":
        try:
            return _from_table(pd.read_parquet(path).reset_index(), path)
        except ImportError as error:
            msg = f"Reading {path.name} needs pyarrow: pip install pyarrow. A .tsv or .csv file needs nothing."
            raise ImportError(msg) from error
    if kind == "json":
        return _series(_mapping(json.loads(path.read_text(encoding="utf-8")), path))
    if kind in ("pkl", "pickle"):
        return _series(_mapping(read_plain_pickle(path), path))
    msg = f"Cannot tell what {path.name} holds; factors are read from .tsv, .csv, .parquet, .json, .pkl and .pickle."
    raise ValueError(msg)


def _series(mapping: Mapping[str, float]) -> pd.Series:
    """Series of any values, so that what is no number can be named later."""
    return pd.Series(list(mapping.values()), index=list(mapping), dtype=object)


def _mapping(content: object, path: Path) -> Mapping[str, float]:
    if isinstance(content, Mapping) and all(isinstance(gene, str) for gene in content):
        return content
    msg = f"{path.name} does not hold a mapping from gene to factor."
    raise ValueError(msg)


def _from_table(table: pd.DataFrame, path: Path) -> pd.Series:
    """Factors by gene from the columns that hold them."""
    by_name = {str(column).strip().lower(): column for column in table.columns}
    genes = next((by_name[name] for name in _GENE_COLUMNS if name in by_name), table.columns[0])
    factors = next((by_name[name] for name in _FACTOR_COLUMNS if name in by_name), None)
    if factors is None:
        numeric = [column for column in table.columns if column != genes and _is_numeric(table[column])]
        if len(numeric) != 1 or _is_numeric(pd.Series(numeric)):
            msg = (
                f"Cannot tell which column of {path.name} holds the factors: {', '.join(map(str, table.columns))}. "
                "Call it 'factor', in the first line of the file."
            )
            raise ValueError(msg)
        factors = numeric[0]
    known = table[genes].notna()
    return pd.Series(table.loc[known, factors].to_numpy(), index=table.loc[known, genes].astype(str).to_numpy())


def _is_numeric(column: pd.Series) -> bool:
    return bool(column.notna().any() and pd.to_numeric(column, errors="coerce").notna().eq(column.notna()).all())


def _numbers(factors: pd.Series) -> pd.Series:
    """Factors as float64; missing ones stay so."""
    values = pd.to_numeric(factors, errors="coerce").astype(np.float64)
    wrong = np.flatnonzero(values.isna() & factors.notna())
    if len(wrong):
        rows = ", ".join(f"{factors.index[i]}: {factors.iloc[i]!r} (row {i + 1})" for i in wrong[:_N_SHOWN])
        msg = f"{len(wrong):,} factors are not numbers: {rows}."
        raise ValueError(msg)
    return values
