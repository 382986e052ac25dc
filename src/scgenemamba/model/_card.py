"""Model card: what a saved model is, for those who find it on a hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._constants import BATCH_KEY, FACTORS_SOURCE, RANK_MODE, X_KEY

_MOST_NAMES = 50


def model_card(model: Any, versions: Mapping[str, str], about: str | None = None) -> str:
    """Markdown of a card, with the metadata that the hub reads.

    Parameters
    ----------
    model
        A :class:`~scgenemamba.GeneMambaModel`.
    versions
        Version of each package it was made with.
    about
        Markdown on data, quality and limits, ``None`` for a reminder to write it.
    """
    config, state = model.module.config, model._state_of(X_KEY)
    labels = [str(name) for name in model.labels]
    batches = model._state_of(BATCH_KEY).get("categorical_mapping", [])
    n_parameters = sum(p.numel() for p in model.module.parameters())
    genes = ", ".join(f"`{gene}`" for gene in model.vocabulary.genes[:3])
    lines = [
        "---",
        "library_name: scgenemamba",
        "tags: [biology, genomics, single-cell, genemamba, scverse]",
        "---",
        "",
        "# GeneMamba model",
        "",
        "A bidirectional Mamba-2 encoder of rank-ordered gene tokens, saved by scgenemamba.",
        "",
        "```python",
        "from scgenemamba import GeneMambaModel",
        "",
        'model = GeneMambaModel.from_pretrained("THIS REPOSITORY OR FOLDER")',
        'adata.obsm["X_genemamba"] = model.get_latent_representation(adata)',
        *(['adata.obs["pred"] = model.predict(adata)'] if labels else []),
        "```",
        "",
        "| | |",
        "|---|---|",
        f"| layers x width | {config.n_layers} x {config.d_model}, state {config.d_state} |",
        f"| parameters | {n_parameters:,} |",
        f"| directions | {config.fusion} |",
        f"| genes | {len(model.vocabulary):,} ({genes}, ...), {config.max_tokens:,} read per cell |",
        f"| ranking | {state.get(RANK_MODE, 'median')}; factors {state.get(FACTORS_SOURCE) or 'not estimated yet'} |",
        f"| latent | {config.n_latent} {'' if model.latent_trained_ else '(not trained: pooled hidden states are used)'} |",
        f"| trained on | {', '.join(model.objectives_) or 'not trained further'} |",
        f"| batches | {len(batches)} |",
        f"| labels | {len(labels)} |",
        f"| made with | {', '.join(f'{name} {number}' for name, number in versions.items())} |",
        "",
    ]
    if labels:
        more = f" and {len(labels) - _MOST_NAMES} more" if len(labels) > _MOST_NAMES else ""
        ids = {str(label): text for label, text in model.ontology_ids_.items()}
        named = [f"{label} ({ids[label]})" if label in ids else label for label in labels[:_MOST_NAMES]]
        lines += [f"Labels: {', '.join(named)}{more}.", ""]
    reminder = (
        "Describe here the training data with their citations and licences, the quality measured, and the limits."
    )
    lines += [about or reminder, ""]
    return "\n".join(lines)
