"""From cells to a model, a card and a repository."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from scvi import settings

from scgenemamba._logging import logger
from scgenemamba.model import GeneMambaModel

from ._card import about
from ._cells import BACKGROUND, LABEL, NO_LABEL, STUDY, labelled_studies, read_cells
from ._quality import judge

if TYPE_CHECKING:
    from anndata import AnnData

    from ._config import ReferenceConfig

_DTYPE = torch.bfloat16


def build_reference(config: ReferenceConfig) -> GeneMambaModel:
    """Train a model that is to annotate the cells of others, and write it with its card.

    The encoder first learns from all cells without labels, then from labels, counts and the alignment of studies; the
    annotation is fitted across studies (:meth:`~scgenemamba.GeneMambaModel.fit_annotation`). With ``training.evaluate`` each study with
    labels is left out in turn; what is found is kept in ``quality/`` beside the model, and not measured again.

    Parameters
    ----------
    config
        What it is made of.

    Returns
    -------
    The model, which is also in the folder ``out``, in half precision.

    Raises
    ------
    FileNotFoundError, KeyError, ValueError
        Naming the file, column or setting that cannot be used.
    """
    cells, out = read_cells(config.cells), Path(config.out)
    _check_ontology(config, cells)
    model = _trained(cells, config)
    model.ontology_ids_ = dict(config.card.ontology_ids)
    studies = labelled_studies(cells)
    judged = {}
    if config.training.evaluate and len(studies) > 1:
        judged = {study: _judged(cells, study, config) for study in studies}
    text = about(config, cells, judged)
    model.save_pretrained(out, dtype=_DTYPE, about=text)
    if config.push_to:
        address = model.push_to_hub(config.push_to, private=config.private, dtype=_DTYPE, about=text)
        logger.info(f"Published: {address}.")
    return model


def judge_study(config: ReferenceConfig, study: str) -> dict[str, Any]:
    """How well a study is annotated by a model that was trained without it; kept for :func:`build_reference`.

    Raises
    ------
    ValueError
        If there is no such study with labels.
    """
    cells = read_cells(config.cells)
    if study not in (known := labelled_studies(cells)):
        msg = f"There is no study {study!r} with labels; there are {known}."
        raise ValueError(msg)
    return _judged(cells, study, config)


def _trained(cells: AnnData, config: ReferenceConfig) -> GeneMambaModel:
    training, sizes = config.training, asdict(config.model)
    settings.seed = training.seed
    options: dict[str, Any] = {"accelerator": training.accelerator}
    n_decoder_genes = sizes.pop("n_decoder_genes")
    with TemporaryDirectory() as folder:
        tokens = cells.copy()
        GeneMambaModel.setup_anndata(tokens, batch_key=STUDY)
        first = GeneMambaModel(tokens, n_decoder_genes=0, masked_weight=1.0, **sizes)
        first.train(training.pretrain_epochs, gene_sets="coexpression", **options)
        first.save_pretrained(folder)
        labelled = cells.copy()
        GeneMambaModel.setup_anndata(labelled, batch_key=STUDY, labels_key=LABEL, unlabeled_category=NO_LABEL)
        model = GeneMambaModel.from_pretrained(folder, labelled, n_decoder_genes=n_decoder_genes, **options)
    model.train(training.max_epochs, plan_kwargs={"lr": training.lr, "gene_dropout": training.gene_dropout}, **options)
    with torch.no_grad():
        # the annotation is fitted to what the file holds
        for values in (*model.module.parameters(), *model.module.buffers()):
            if values.is_floating_point():
                values.copy_(values.to(_DTYPE))
    model.fit_annotation(labelled[~labelled.obs[BACKGROUND].to_numpy()].copy(), across_studies=True)
    return model


def _judged(cells: AnnData, study: str, config: ReferenceConfig) -> dict[str, Any]:
    path = Path(config.out) / "quality" / f"{study}.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    logger.info(f"Training without {study}, to be judged by it.")
    out = (cells.obs[STUDY] == study).to_numpy()
    found = judge(_trained(cells[~out].copy(), config), cells, study)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def _check_ontology(config: ReferenceConfig, cells: AnnData) -> None:
    unknown = sorted(set(config.card.ontology_ids) - set(cells.obs[LABEL]))
    if unknown:
        msg = f"card.ontology_ids names {unknown}, which no cell is labelled with."
        raise ValueError(msg)
