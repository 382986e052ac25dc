"""The part of a card that tells where a reference model comes from and how good it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._cells import BACKGROUND, LABEL, NO_LABEL, STUDY

if TYPE_CHECKING:
    from anndata import AnnData

    from ._config import ReferenceConfig


def about(config: ReferenceConfig, cells: AnnData, judged: dict[str, dict[str, Any]]) -> str:
    """Markdown on data, training, measured quality and limits.

    Parameters
    ----------
    config
        Of the model.
    cells
        All cells it was trained on.
    judged
        What was found for each study that was left out.
    """
    card, training = config.card, config.training
    parts = [card.description, "## Data"]
    parts.append("\n".join(f"- {entry}" for entry in card.data) or "Not described.")
    parts.append(_table_of_cells(cells))
    told = f"`{card.command}`. " if card.command else ""
    parts += [
        "## Training",
        f"{told}Seed {training.seed}; {training.pretrain_epochs} epochs on hidden and co-expressed genes of all cells, "
        f"{training.max_epochs} on labels, counts, hidden genes and the alignment of studies. Studies without labels teach the "
        "annotation by the labels that their cells are likely to have. Weights are rounded to bfloat16 before the annotation is fitted.",
        "## Quality",
        _quality(judged),
        "## Limits",
    ]
    parts.append("\n".join(f"- {limit}" for limit in card.limits) or "Not described.")
    if card.license:
        parts.append(f"Licence: {card.license}.")
    return "\n\n".join(part for part in parts if part)


def _table_of_cells(cells: AnnData) -> str:
    lines = ["| study | cells | with a label | labels |", "|---|---|---|---|"]
    for study, own in cells.obs.groupby(STUDY, observed=True):
        labels = own[LABEL][own[LABEL] != NO_LABEL]
        kind = f"{study} (background)" if own[BACKGROUND].any() else study
        lines.append(f"| {kind} | {len(own):,} | {len(labels):,} | {', '.join(sorted(set(labels))) or '-'} |")
    return "\n".join(lines)


def _quality(judged: dict[str, dict[str, Any]]) -> str:
    if not judged:
        return "Not measured: it takes several studies with labels."
    names = next(iter(judged.values()))["baselines"]
    head = [
        "study left out",
        "accuracy",
        "macro-F1",
        "ECE",
        "90 % sets hold",
        "called unknown",
        "novelty AUROC",
        *names,
    ]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for study, found in judged.items():
        auroc = f"{found['novelty_auroc']:.3f}" if "novelty_auroc" in found else "-"
        cells = [f"{found[name]:.3f}" for name in ("accuracy", "macro_f1", "ece", "coverage", "called_unknown")]
        rivals = [f"{scores['accuracy']:.3f} / {scores['macro_f1']:.3f}" for scores in found["baselines"].values()]
        lines.append(f"| {' | '.join([study, *cells, auroc, *rivals])} |")
    lines += ["", "F1 by label:", "", "| study left out | label | F1 | cells |", "|---|---|---|---|"]
    for study, found in judged.items():
        lines += [f"| {study} | {name} | {s['f1']:.2f} | {s['support']:.0f} |" for name, s in found["labels"].items()]
    return (
        "Each study with labels was left out of a training of its own (labels that only it has cannot be known, and are not scored). "
        "Baselines, accuracy / macro-F1: logistic regressions trained on the same labels.\n\n" + "\n".join(lines)
    )
