"""Where ours wins or loses, and by how much."""

from __future__ import annotations

import pandas as pd

from ._interval import Interval, mean_interval


def over_seeds(rows: pd.DataFrame, score: str) -> Interval:
    """Mean and interval over seeds, of each seed's mean over folds."""
    if score not in rows:
        return mean_interval([])
    return mean_interval(rows.groupby("seed")[score].mean().to_numpy(dtype=float))


def verdicts(rows: pd.DataFrame, scores: dict[str, str]) -> list[str]:
    """One sentence a score: ours against the best rival.

    Parameters
    ----------
    rows
        Runs of one table, with ``method``, ``seed``, ``fold``, ``ours`` and ``control``.
    scores
        Columns, larger is better, and their names in words.
    """
    return [line for score, name in scores.items() if (line := _verdict(rows, score, name))]


def _verdict(rows: pd.DataFrame, score: str, name: str) -> str:
    rivals = rows[~rows["ours"] & ~rows["control"]]
    means = {method: over_seeds(part, score).mean for method, part in rivals.groupby("method", sort=False)}
    means = {method: mean for method, mean in means.items() if mean == mean}
    lines = []
    for method, part in rows[rows["ours"]].groupby("method", sort=False):
        mine = over_seeds(part, score).mean
        if mine != mine:
            if score in part and not part["message"].eq("").any():
                lines.append(f"{method} failed: no {name}.")
            continue
        if not means:
            lines.append(f"{method}: {name} {mine:.3f}; no rival to compare with.")
            continue
        best = max(means, key=lambda rival: means[rival])
        difference = _paired(part, rivals[rivals["method"] == best], score)
        if not difference.n:
            lines.append(f"{name}: {method} {mine:.3f}; the best rival, {best!s}, finished other queries.")
            continue
        lines.append(_sentence(str(method), str(best), name, mine, means[best], difference))
    return " ".join(lines)


def _sentence(method: str, best: str, name: str, mine: float, theirs: float, difference: Interval) -> str:
    gap = difference.mean
    outcome = "ties with" if abs(gap) < 0.0005 else ("wins over" if gap > 0 else "loses to")
    text = f"{name}: {method} {outcome} the best rival, {best}, by {gap:+.3f} ({mine:.3f} against {theirs:.3f}"
    if difference.n > 1:
        text += f"; 95 % interval of the difference {difference.low:+.3f} to {difference.high:+.3f}"
        if difference.low < 0 < difference.high:
            text += ", which holds zero"
    return text + ")."


def _paired(ours: pd.DataFrame, theirs: pd.DataFrame, score: str) -> Interval:
    """Differences seed by seed, of means over the folds that both finished; what no seed changes stands for all seeds."""
    mine, other = (rows.pivot_table(index="seed", columns="fold", values=score) for rows in (ours, theirs))
    folds = mine.columns.intersection(other.columns)
    mine, other = mine[folds], other[folds]
    if len(other) == 1:
        return mean_interval((mine - other.iloc[0]).mean(axis=1).to_numpy(dtype=float))
    seeds = mine.index.intersection(other.index)
    return mean_interval((mine.loc[seeds] - other.loc[seeds]).mean(axis=1).to_numpy(dtype=float))
