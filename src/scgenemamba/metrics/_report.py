"""Results as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from ._progress import duration
from ._verdict import over_seeds, verdicts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._results import BenchmarkResult

_INTEGRATION = {
    "Total": "scIB total",
    "Bio conservation": "bio conservation",
    "Batch correction": "batch correction",
    "Avg_bio": "Avg_bio",
    "Avg_batch": "Avg_batch",
}
_ANNOTATION = {
    "macro_f1": "macro-F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "ece": "calibration error",
    "coverage": "coverage of 90 % sets",
    "mean_set_size": "set size",
    "novelty_auroc": "novelty AUROC",
    "accuracy_all": "accuracy, new types as errors",
    "macro_f1_all": "macro-F1, new types as zero",
}
_ANNOTATION_VERDICTS = ("macro_f1", "accuracy", "novelty_auroc")
_SPLITS = {
    "by batch": "Labels of one batch after the other are hidden; those of the other batches are shown.",
    "random": "Labels of a random fifth of each type's cells are hidden.",
    "scarce": "Labels of a tenth of each type's cells are shown, at least two; all others are hidden.",
}


def markdown(result: BenchmarkResult) -> str:
    """The whole report."""
    parts = [*_header(result), *_label_free(result.integration), *_label_aware(result.integration)]
    parts += [*_annotation(result.annotation), *_failures(result)]
    return "\n\n".join(parts) + "\n"


def _header(result: BenchmarkResult) -> list[str]:
    facts, cells, settings = result.facts, result.facts["cells"], result.facts["settings"]
    lines = ["# Benchmark"]
    if settings["quick"]:
        lines.append(
            "**A quick run: few epochs, no choice of hyper-parameters. It shows that all runs, and compares nothing.**"
        )
    seeds = "1 seed, so there are no intervals" if settings["seeds"] == 1 else f"{settings['seeds']} seeds"
    lines.append(
        f"{cells['cells']} cells, {cells['genes']} genes, {len(cells['batches'])} batches, {len(cells['labels'])} labels; "
        f"{seeds}; {facts['device']}; {facts['date']}; scgenemamba {facts['versions'].get('scgenemamba')}, "
        f"preset {settings['preset']}.\n\n    {facts['command']}"
    )
    lines.append(
        "Mean ± half the 95 % t interval over seeds, where there are several; methods that do not depend on the seed run "
        "once. Controls and methods that failed are no rivals. *Transductive* methods train on the expression of the "
        "query cells as well; labels of the query are hidden from all."
    )
    return lines


def _label_free(rows: pd.DataFrame) -> list[str]:
    if rows.empty or not (rows["labels"] == "none").any():
        return []
    chosen = rows[rows["labels"] == "none"]
    return [
        "## Integration without labels",
        "Scored on all cells, with scib-metrics and no scaling over methods. Avg_bio and Avg_batch are those of the "
        "GeneMamba paper.",
        *_table(chosen, _INTEGRATION, "Total", transductive=False),
        "Each score:",
        *_details(chosen),
    ]


def _label_aware(rows: pd.DataFrame) -> list[str]:
    if rows.empty or not (rows["labels"] == "shown").any():
        return []
    parts = ["## Integration with labels", "All methods see the same labels, and never those of the held-out cells."]
    shown = rows[rows["labels"] == "shown"]
    for split, part in shown.groupby("split", sort=False):
        parts += [f"### Labels shown: {split}", _SPLITS[str(split)]]
        for cells, title in (("all", "All cells:"), ("held-out", "Held-out cells:")):
            scored = part[part["cells"] == cells]
            if scored.empty:
                continue
            scores = _present(scored, _INTEGRATION)
            notes = list(scored["note"].dropna().unique()) if "note" in scored else []
            parts += [" ".join([title, *(f"({note})" for note in notes)])]
            if scores or scored["message"].ne("").any():
                parts += _table(scored, scores or _INTEGRATION, "Total" if "Total" in scores else "Bio conservation")
    return parts


def _annotation(rows: pd.DataFrame) -> list[str]:
    if rows.empty:
        return []
    parts = [
        "## Annotation",
        "Scores of held-out cells whose type was shown; macro-F1 is the mean over types on both sides. Cells of types that "
        "no labelled cell has are scored by novelty (the method's own score, else one minus the largest probability), and "
        "as errors in the columns that say so.",
    ]
    for split, part in rows.groupby("split", sort=False):
        parts += [f"### {str(split).capitalize()}", _SPLITS[str(split)]]
        scores = _present(part, _ANNOTATION)
        if "n_new" in part and not part["n_new"].any():
            scores = {key: name for key, name in scores.items() if not key.endswith("_all")}
        parts += _table(part, scores or _ANNOTATION, "macro_f1", verdict_on=_ANNOTATION_VERDICTS)
        if part["fold"].nunique() > 1:
            parts += ["Macro-F1 by query:", _by_fold(part, "macro_f1")]
    return parts


def _failures(result: BenchmarkResult) -> list[str]:
    frames = [frame for frame in (result.integration, result.annotation) if not frame.empty]
    rows = pd.concat([frame[["method", "message"]] for frame in frames]) if frames else pd.DataFrame()
    if rows.empty or rows["message"].eq("").all():
        return []
    failed = rows[rows["message"].ne("")].drop_duplicates()
    lines = [f"* {row.method}: {str(row.message).splitlines()[0]}" for row in failed.itertuples()]
    return ["## Failed", "\n".join(lines)]


def _present(rows: pd.DataFrame, scores: dict[str, str]) -> dict[str, str]:
    return {key: name for key, name in scores.items() if key in rows and rows[key].notna().any()}


def _table(
    rows: pd.DataFrame,
    scores: dict[str, str],
    main: str,
    *,
    verdict_on: Iterable[str] | None = None,
    transductive: bool = True,
) -> list[str]:
    """Table of methods by scores, best first, and what it says about ours."""
    good = rows[rows["message"].eq("")]
    order = sorted(good["method"].unique(), key=lambda method: -over_seeds(good[good["method"] == method], main).mean)
    head = ["method", *(["transductive"] if transductive else []), *scores.values(), "runs", "time of a run"]
    lines = []
    for method in order:
        part = good[good["method"] == method]
        about = part.iloc[0]
        name = f"**{method}**" if about["ours"] else f"{method} (control)" if about["control"] else method
        flag = [("yes" if about["transductive"] else "no")] if transductive else []
        values = [str(over_seeds(part, score)) for score in scores]
        n_failed = int((rows["method"].eq(method) & rows["message"].ne("")).sum())
        n_runs = f"{len(part)} ({n_failed} failed)" if n_failed else str(len(part))
        lines.append([name, *flag, *values, n_runs, duration(part["seconds"].mean())])
    for method in rows["method"].unique():
        n_failed = int(rows.loc[rows["method"] == method, "message"].ne("").sum())
        if n_failed and method not in order:
            lines.append([str(method), *(["-"] if transductive else []), *["failed"] * len(scores), str(n_failed), "-"])
    named = {score: scores[score] for score in (verdict_on or [main, "Bio conservation"]) if score in scores}
    return [
        _grid(head, lines),
        "\n".join(f"* {line}" for line in verdicts(rows, named)) or "* Nothing of ours to compare.",
    ]


def _details(rows: pd.DataFrame) -> list[str]:
    """Every score of scib-metrics, means only."""
    about = {
        "method",
        "labels",
        "split",
        "fold",
        "seed",
        "cells",
        "transductive",
        "control",
        "ours",
        "seconds",
        "run",
        "n_cells",
    }
    scores = [
        column
        for column in rows.select_dtypes("number").columns
        if column not in about and column not in _INTEGRATION and rows[column].notna().any()
    ]
    good = rows[rows["message"].eq("")]
    lines = [
        [str(method), *(f"{over_seeds(part, score).mean:.3f}" for score in scores)]
        for method, part in good.groupby("method", sort=False)
    ]
    return [_grid(["method", *scores], lines)]


def _by_fold(rows: pd.DataFrame, score: str) -> str:
    good = rows[rows["message"].eq("")]
    folds = list(dict.fromkeys(good["fold"]))
    lines = [
        [str(method), *(str(over_seeds(part[part["fold"] == fold], score)) for fold in folds)]
        for method, part in good.groupby("method", sort=False)
    ]
    return _grid(["method", *folds], lines)


def _grid(head: list[str], lines: list[list[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
