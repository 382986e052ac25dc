"""Losses of simple guesses on the cells of a validation, kept beside the data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lightning.pytorch.utilities import rank_zero_only
from scvi import settings

from scgenemamba.train import VALIDATION_EPOCH, CellRandom, RankBaselines

from ._files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from scgenemamba.model import GeneMambaModel
    from scgenemamba.train import CellStreamModule

_CELLS_TO_LEARN_FROM = 20_000
_OBJECTIVE = "masked_genes"


def baseline_losses(cells: CellStreamModule, model: GeneMambaModel, kept: Path) -> dict[str, dict[str, float]]:
    """Losses of ``unigram`` and ``mean_rank`` for each set of the validation, by its name.

    Empty for objectives other than masked genes, and in all processes but the first.

    Parameters
    ----------
    cells
        Cells of training and validation.
    model
        Its masks are taken.
    kept
        JSON file in which the losses are kept.
    """
    objective = dict(model.module.objectives.items()).get(_OBJECTIVE)
    if objective is None or getattr(rank_zero_only, "rank", None):
        return {}
    config = model.module.config
    of = [settings.seed, objective.mask_rate, config.max_tokens, cells.batch_size, cells.n_obs, cells.validation_names]
    if kept.exists():
        known = json.loads(kept.read_text())
        if known["of"] == of:
            return known["losses"]
    guesses = RankBaselines(config.n_tokens, config.max_tokens).fit(cells.sample(_CELLS_TO_LEARN_FROM))
    random = CellRandom(int(settings.seed or 0), VALIDATION_EPOCH)
    names = [name or "held_out" for name in cells.validation_names]
    found = {
        name: guesses.losses(loader, lambda batch: objective.prepare(batch, random))
        for name, loader in zip(names, cells.val_dataloader(), strict=True)
    }
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_whole(kept, json.dumps({"of": of, "losses": found}, indent=1))
    return found
