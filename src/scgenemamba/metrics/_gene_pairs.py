"""How well similarities of genes tell pairs that are known to belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ._interval import with_bounds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

_COLUMNS = ["gene_1", "gene_2", "label"]
_DRAWS = 50


def matched_gene_pairs(
    known: Iterable[tuple[str, str]], abundance: pd.Series, *, n_bins: int = 10, random_state: int = 0
) -> pd.DataFrame:
    """Known pairs, and as many others of genes that are as abundant and have as many partners.

    For each known pair, one of its genes is kept and the other exchanged for one of the same bin of abundance and of number of
    partners, with which the first is not known to be paired: neither abundance nor popularity tells the pairs apart.

    Parameters
    ----------
    known
        Pairs of gene names, in any order; each counts once.
    abundance
        Such as the number of cells that show a gene, by gene. Pairs with other genes are left out.
    n_bins
        Bins of equal size of abundance; those of partners are half as many.
    random_state
        Seed of the exchange.

    Returns
    -------
    Table with ``gene_1``, ``gene_2`` and ``label``, 1 for known pairs and 0 for the others, as many of each. Known pairs for which
    no other gene is found are left out.

    Raises
    ------
    ValueError
        If no known pair is left.
    """
    index = pd.Index(abundance.index.astype(str))
    pairs = np.array([[str(a), str(b)] for a, b in known], dtype=object).reshape(-1, 2)
    places = np.stack([index.get_indexer(pairs[:, 0]), index.get_indexer(pairs[:, 1])], axis=1)
    places = np.sort(places[(places >= 0).all(1) & (places[:, 0] != places[:, 1])], axis=1)
    places = np.unique(places, axis=0)
    n_genes = len(index)
    taken = places[:, 0] * n_genes + places[:, 1]
    degree = np.bincount(places.ravel(), minlength=n_genes)
    # only genes that have partners stand in for others
    candidates = np.flatnonzero(degree)
    bins = np.zeros(n_genes, dtype=np.int64)
    bins[candidates] = _bins(abundance.to_numpy()[candidates], n_bins) * n_bins + _bins(
        degree[candidates], max(n_bins // 2, 1)
    )
    ordered = candidates[np.argsort(bins[candidates], kind="stable")]
    start, end = (np.searchsorted(bins[ordered], bins, side) for side in ("left", "right"))
    generator = np.random.default_rng(random_state)
    kept = generator.integers(2, size=len(places))
    rows = np.arange(len(places))
    anchor, replaced = places[rows, kept], places[rows, 1 - kept]
    other = np.full(len(places), -1)
    for _ in range(_DRAWS):
        todo = np.flatnonzero(other < 0)
        if not len(todo):
            break
        gene = replaced[todo]
        drawn = ordered[generator.integers(start[gene], end[gene])]
        key = np.minimum(anchor[todo], drawn) * n_genes + np.maximum(anchor[todo], drawn)
        fits = (drawn != anchor[todo]) & ~np.isin(key, taken)
        other[todo[fits]] = drawn[fits]
    found = other >= 0
    if not found.any():
        msg = f"None of the {len(pairs):,} known pairs can be compared: {len(places):,} are of genes with an abundance, and no other gene is like theirs."
        raise ValueError(msg)
    names = index.to_numpy()
    positive = pd.DataFrame(names[places[found]], columns=_COLUMNS[:2]).assign(label=1)
    negative = pd.DataFrame(np.stack([names[anchor[found]], names[other[found]]], axis=1), columns=_COLUMNS[:2]).assign(
        label=0
    )
    return pd.concat([positive, negative], ignore_index=True)


def score_gene_pairs(
    pairs: pd.DataFrame,
    similarities: Mapping[str, pd.DataFrame],
    *,
    control: str | None = None,
    n_resamples: int = 200,
    confidence: float = 0.95,
    random_state: int = 0,
) -> pd.DataFrame:
    """Areas under the ROC and the precision-recall curve of similarities that should tell pairs of label 1 from those of label 0.

    Intervals come from resampling genes, not pairs: pairs of one gene are not independent. A pair counts as often as
    both its genes were drawn.

    Parameters
    ----------
    pairs
        Table with ``gene_1``, ``gene_2`` and ``label``, see :func:`matched_gene_pairs`.
    similarities
        Square tables of genes by genes, by name. Only pairs whose genes are in all of them are scored.
    control
        One of the similarities, which the others are compared with in the same resamples.
    n_resamples
        Number of resamples.
    confidence
        Share of the resamples within the intervals.
    random_state
        Seed of the resamples.

    Returns
    -------
    Table by similarity with ``n_pairs``, ``auroc``, ``auroc_low``, ``auroc_high``, ``auprc``, ``auprc_low``, ``auprc_high``, and with a
    control the same of the gain over it, ``auroc_gain`` and so on.

    Raises
    ------
    KeyError
        If a column is missing, or there is no such control.
    ValueError
        If there are no similarities, or pairs of both labels whose genes all similarities know.
    """
    missing = [column for column in _COLUMNS if column not in pairs]
    if missing:
        msg = f"`pairs` has no column {missing[0]!r}; it has {[*pairs.columns]}."
        raise KeyError(msg)
    if control is not None and control not in similarities:
        msg = f"`control`: there is no similarity {control!r}; there are {[*similarities]}."
        raise KeyError(msg)
    if not similarities:
        msg = "There are no similarities to score."
        raise ValueError(msg)
    genes = sorted(set.intersection(*(set(table.index.astype(str)) for table in similarities.values())))
    index = pd.Index(genes)
    places = np.stack([index.get_indexer(pairs[name].astype(str)) for name in _COLUMNS[:2]], axis=1)
    inside = (places >= 0).all(1)
    places, label = places[inside], pairs["label"].to_numpy()[inside].astype(int)
    if len(np.unique(label)) < 2:
        msg = f"Only {len(label):,} of {len(pairs):,} pairs are of genes that all similarities know, and not of both labels."
        raise ValueError(msg)
    values = {name: _values(table, genes, places) for name, table in similarities.items()}
    weights = _weights(places, len(genes), n_resamples, random_state)
    usable = [weight for weight in weights if weight[label == 1].any() and weight[label == 0].any()]
    found = {name: _scores(label, value, usable) for name, value in values.items()}
    rows: dict[str, dict[str, float]] = {}
    for name, scores in found.items():
        rows[name] = {"n_pairs": len(label)}
        for kind, all_scores in scores.items():
            rows[name] |= with_bounds(_names(kind), all_scores, confidence)
            if control is not None:
                rows[name] |= with_bounds(_names(f"{kind}_gain"), all_scores - found[control][kind], confidence)
    return pd.DataFrame.from_dict(rows, orient="index")


def _weights(places: npt.NDArray[np.int64], n_genes: int, n_resamples: int, seed: int) -> list[npt.NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    drawn = (np.bincount(generator.integers(n_genes, size=n_genes), minlength=n_genes) for _ in range(n_resamples))
    return [times[places[:, 0]] * times[places[:, 1]] for times in drawn]


def _scores(
    label: npt.NDArray[np.int64], value: npt.NDArray[np.float64], weights: list[npt.NDArray[np.int64]]
) -> dict[str, npt.NDArray[np.float64]]:
    """Score of all pairs, then of each resample."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    return {
        kind: np.array([score(label, value)] + [score(label, value, sample_weight=weight) for weight in weights])
        for kind, score in (("auroc", roc_auc_score), ("auprc", average_precision_score))
    }


def _bins(values: npt.NDArray, n_bins: int) -> npt.NDArray[np.int64]:
    ranks = pd.Series(values).rank(method="average", pct=True).to_numpy()
    return np.minimum((ranks * n_bins).astype(np.int64), n_bins - 1)


def _values(table: pd.DataFrame, genes: list[str], places: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    rows = pd.Index(table.index.astype(str)).get_indexer(genes)
    columns = pd.Index(table.columns.astype(str)).get_indexer(genes)
    values = table.to_numpy()[rows[places[:, 0]], columns[places[:, 1]]].astype(float)
    # of genes without spread, a correlation is not defined: it tells nothing
    return np.nan_to_num(values, nan=float(np.nanmin(values)) if np.isfinite(values).any() else 0.0)


def _names(score: str) -> tuple[str, str, str]:
    return score, f"{score}_low", f"{score}_high"
