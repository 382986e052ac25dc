"""Cells and model of a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scvi import settings
from scvi.model._utils import parse_device_args

from scgenemamba.model import LANGUAGE, GeneMambaModel, default_epochs

from ._files import OutputFolder, files_of

if TYPE_CHECKING:
    from scgenemamba.train import CellStreamModule

    from ._config import PretrainConfig


def build(config: PretrainConfig) -> tuple[CellStreamModule, GeneMambaModel]:
    """Look through the files, and make the model.

    Raises
    ------
    FileNotFoundError, ValueError
        Naming the file or the setting that cannot be used.
    """
    settings.seed = config.training.seed
    asked, data = config.model, config.data
    objective = {name: getattr(config.objective, name) for name in ("language", "mask_rate", "masked_last")}
    # without a decoder there is nothing that this loss would have to be weighed against
    objective["masked_weight"] = 1.0
    start = None
    if asked.start_from is not None:
        start = GeneMambaModel.from_pretrained(asked.start_from, backend=asked.backend)
        _check_start(start, config)
    cells = GeneMambaModel.setup_files(
        files_of(data.files),
        layer=data.layer,
        gene_key=data.gene_key,
        batch_size=data.batch_size,
        held_out=data.held_out,
        validation={name: files_of(files) for name, files in data.validation.items()},
        model=start,
        skip_corrupt=data.skip_corrupt,
        cache=OutputFolder.of(config).data,
    )
    if start is not None:
        return cells, start
    model = GeneMambaModel(
        registry=cells.registry,
        preset=asked.preset,
        n_layers=asked.n_layers,
        d_model=asked.d_model,
        max_tokens=asked.max_tokens,
        d_state=asked.d_state,
        fusion=asked.fusion,
        backend=asked.backend,
        **objective,
    )
    return cells, model


def _check_start(model: GeneMambaModel, config: PretrainConfig) -> None:
    found, start, language = set(model.module.objectives), config.model.start_from, config.objective.language
    others = sorted(found - set(LANGUAGE))
    if others:
        msg = f"{start} also learnt {', '.join(others)}, which needs an AnnData: train it on one, or start from weights of tokens alone."
        raise ValueError(msg)
    if language not in found:
        msg = f"{start} learnt {', '.join(sorted(found))}, the configuration asks for objective.language: {language}."
        raise ValueError(msg)


def n_processes(config: PretrainConfig) -> int:
    """Processes that take part in a training."""
    asked = config.training
    _, devices, _ = parse_device_args(asked.accelerator, asked.devices, return_device="torch")
    per_node = len(devices) if isinstance(devices, list) else int(devices)
    return per_node * asked.num_nodes


def training_arguments(config: PretrainConfig, cells: CellStreamModule) -> dict[str, Any]:
    """Arguments of :meth:`GeneMambaModel.train <scgenemamba.GeneMambaModel.train>`, without callbacks."""
    asked, objective = config.training, config.objective
    plan = {name: getattr(asked, name) for name in ("lr", "weight_decay", "warmup_fraction", "gradient_clip")}
    gene_sets: Any = objective.gene_sets or None
    if gene_sets == ["coexpression"]:
        gene_sets = "coexpression"
    arguments = {
        "max_epochs": default_epochs(cells.n_obs) if asked.max_epochs is None else asked.max_epochs,
        "batch_size": config.data.batch_size,
        "gene_sets": gene_sets,
        "pathway_weight": objective.pathway_weight,
        "accelerator": asked.accelerator,
        "devices": asked.devices,
        "plan_kwargs": {name: value for name, value in plan.items() if value is not None},
        "accumulate_grad_batches": asked.accumulate_grad_batches,
        "num_nodes": asked.num_nodes,
        "strategy": asked.strategy,
        "check_val_every_n_epoch": 1,
        "enable_progress_bar": config.output.progress_bar,
        "simple_progress_bar": False,
        "log_every_n_steps": config.output.log_every_n_steps,
        "default_root_dir": config.out,
    }
    if asked.validate_every_n_steps is not None:
        # Lightning counts batches of one epoch, and takes no more than there are
        every = asked.validate_every_n_steps * asked.accumulate_grad_batches
        arguments["val_check_interval"] = min(every, cells.n_batches(n_processes(config)))
    return arguments
