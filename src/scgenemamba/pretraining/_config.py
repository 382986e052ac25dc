"""What a pretraining is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class DataConfig:
    """Cells.

    Attributes
    ----------
    files
        ``.h5ad`` files, zarr folders or annbatch collections; ``*`` and ``**`` as in a shell.
    validation
        Files of further cells for the validation, by the name under which their losses are told.
    layer
        Layer that holds the values, none for X.
    gene_key
        Column of ``var`` that holds the gene names, none for its index.
    batch_size
        Cells of a step of each process.
    held_out
        Share of the cells that training does not see.
    skip_corrupt
        Leave out files that cannot be used, instead of stopping.
    """

    files: list[str]
    validation: dict[str, list[str]] = field(default_factory=dict)
    layer: str | None = None
    gene_key: str | None = None
    batch_size: int = 128
    held_out: float = 0.01
    skip_corrupt: bool = False


@dataclass(frozen=True)
class ModelConfig:
    """Architecture, as the arguments of :class:`~scgenemamba.GeneMambaModel`.

    Attributes
    ----------
    preset
        Size: tiny, small, medium or large.
    n_layers
        Layers, none for those of the preset.
    d_model
        Width, none for that of the preset.
    max_tokens
        Genes read per cell, none for those of the preset.
    d_state
        Size of the state.
    fusion
        How the two directions are joined.
    backend
        Implementation of the scan.
    start_from
        Folder or hub repository with weights to go on from, which brings its architecture, genes and masks; none for new weights.
    """

    preset: str = "small"
    n_layers: int | None = None
    d_model: int | None = None
    max_tokens: int | None = None
    d_state: int = 64
    fusion: Literal["mean", "sum", "gate", "concat", "alternate"] = "mean"
    backend: str = "auto"
    start_from: str | None = None


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is learnt.

    Attributes
    ----------
    language
        Loss over the vocabulary.
    mask_rate
        Share of hidden genes.
    masked_last
        Move hidden genes behind the others, so that their neighbours do not give them away.
    gene_sets
        GMT files for the pathway term, or the word coexpression; empty for none.
    pathway_weight
        Weight of the pathway term.
    """

    language: Literal["masked_genes", "next_token", "leaky_next_token"] = "masked_genes"
    mask_rate: float = 0.15
    masked_last: bool = False
    gene_sets: list[str] = field(default_factory=list)
    pathway_weight: float = 0.1


@dataclass(frozen=True)
class TrainingConfig:
    """How it is learnt.

    Attributes
    ----------
    max_epochs
        Times that each cell is seen, none for as many as see 100,000 cells, at most 100.
    lr
        Highest learning rate, none for one that fits the width.
    weight_decay
        Decay of matrices.
    warmup_fraction
        Share of the steps in which the learning rate rises; then it falls to a tenth along a cosine.
    gradient_clip
        Largest norm of the gradient.
    accumulate_grad_batches
        Batches of each process whose gradients make one step.
    ema_decay
        Of an exponential moving average of the weights, such as 0.999, which is what is kept in the end; none for no average.
    validate_every_n_steps
        Steps between validations, none for once an epoch.
    seed
        Of weights, masks and the order of the cells.
    accelerator
        As Lightning names it.
    devices
        How many devices of a node, or auto.
    num_nodes
        Nodes.
    strategy
        Lightning's strategy, such as auto or ddp.
    """

    max_epochs: int | None = None
    lr: float | None = None
    weight_decay: float = 0.01
    warmup_fraction: float = 0.05
    gradient_clip: float = 1.0
    accumulate_grad_batches: int = 1
    ema_decay: float | None = None
    validate_every_n_steps: int | None = None
    seed: int = 0
    accelerator: str = "auto"
    devices: int | str = "auto"
    num_nodes: int = 1
    strategy: str = "auto"


@dataclass(frozen=True)
class OutputConfig:
    """What is written.

    Attributes
    ----------
    checkpoint_every_n_steps
        Steps between checkpoints.
    keep
        Latest checkpoints that are kept, beside the best.
    log_every_n_steps
        Steps between lines of the log.
    tensorboard
        Log for TensorBoard as well.
    progress_bar
        Show one.
    """

    checkpoint_every_n_steps: int = 1000
    keep: int = 3
    log_every_n_steps: int = 50
    tensorboard: bool = False
    progress_bar: bool = True


@dataclass(frozen=True)
class PretrainConfig:
    """A pretraining.

    Attributes
    ----------
    out
        Folder of the results: ``model/``, ``checkpoints/``, ``logs/``, ``config.yaml``, ``report.json`` and ``loss.png``.
    data
        Cells.
    model
        Architecture.
    objective
        What is learnt.
    training
        How it is learnt.
    output
        What is written.
    resume
        Go on from the newest checkpoint of the folder where there is one (auto), or refuse a folder that has any (never).
    """

    out: str
    data: DataConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    resume: Literal["auto", "never"] = "auto"
