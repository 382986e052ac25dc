"""How training is run: its arguments and number of epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from numbers import Integral
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from scvi import settings
from scvi.model._utils import parse_device_args
from scvi.model.base import UnsupervisedTrainingMixin
from scvi.train import merge_kwargs
from scvi.utils._docstrings import devices_dsp

from scgenemamba._logging import logger
from scgenemamba.tokens import name_some

from ._constants import BATCH_KEY, LANGUAGE, MAX_CELLS_FOR_ESTIMATES
from ._fine_tuning import frozen_if, partly_frozen
from ._memory import DEFAULT_BATCH_SIZE, SMALLER_TRAINING, fit_training, out_of_memory_advice
from ._pathway import COEXPRESSION, pathway_contrast
from ._registration import cells_in_token_space
from ._runner import to_frames
from ._source import spread

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    import scipy.sparse as sp

    from scgenemamba.tokens import GeneSets, Vocabulary
    from scgenemamba.train import Objective

# of fewer cells, a tenth is none
_MIN_CELLS_FOR_VALIDATION = 10
_CELLS_FOR_LENGTHS = 512
#: Cells seen in a default training run; small data sets are seen more often.
_CELL_VISITS = 100_000
_MAX_EPOCHS = 100
#: Above so many cells one pass shows the model more cells than it needs.
_ONE_PASS_ABOVE = 200_000


def default_epochs(n_cells: int) -> int:
    """Epochs of a default training run: as many as see 100,000 cells, at most 100.

    At least two, so that cells are seen with different genes hidden; above 200,000 cells one.
    """
    fewest = 1 if n_cells > _ONE_PASS_ABOVE else 2
    return int(min(max(round(_CELL_VISITS / max(n_cells, 1)), fewest), _MAX_EPOCHS))


class TrainingMixin(UnsupervisedTrainingMixin):
    """Training; mixed into :class:`~scgenemamba.GeneMambaModel`."""

    # supplied by the model
    module: Any
    adata: Any
    registry_: dict[str, Any]
    vocabulary: Vocabulary
    history_: Any
    likelihood_: str
    objectives_: list[str]
    latent_trained_: bool
    head_trained_: bool
    _plan_defaults: MappingProxyType[str, Any] | dict[str, Any] = MappingProxyType({})
    _state_of: Callable[[str], dict[str, Any]]
    _annotate_after_training: Callable[..., None]

    @devices_dsp.dedent
    def train(
        self,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        train_size: float | None = None,
        validation_size: float | None = None,
        shuffle_set_split: bool = True,
        load_sparse_tensor: bool = False,
        batch_size: int | Literal["auto"] = "auto",
        early_stopping: bool = False,
        supervised: bool | None = None,
        gene_sets: str | Path | GeneSets | Sequence[str | Path] | None = None,
        pathway_weight: float = 0.1,
        n_frozen_layers: int | Literal["all"] = 0,
        peft_config: Any = None,
        datasplitter_kwargs: dict[str, Any] | None = None,
        plan_config: Any = None,
        plan_kwargs: Any = None,
        datamodule: Any = None,
        trainer_config: Any = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the model; :attr:`scvi.settings.seed` makes it reproducible.

        Parameters
        ----------
        max_epochs
            Number of epochs. ``None`` takes as many as see 100,000 cells, at most 100 and at least 2; for more than
            200,000 cells, one.
        %(param_accelerator)s
        %(param_devices)s
        train_size, validation_size, shuffle_set_split
            Split of the cells, see :class:`~scvi.dataloaders.DataSplitter`.
        load_sparse_tensor
            Has no effect: batches are ragged tokens.
        batch_size
            Cells per step. ``"auto"`` takes 128, or the largest power of two below that for which there is memory.
            Whatever the size, layers are computed twice where their results do not fit: slower, and equal.
        early_stopping
            Stop when ``validation_loss`` no longer falls.
        supervised
            ``True`` lets the labels shape the embedding; ``False`` trains the classifier on an embedding that is
            exactly the one without labels; ``None`` is ``True`` where labels are registered.
        gene_sets, pathway_weight
            Files of gene sets (GMT, as of Reactome), or a mapping from names to genes, whose genes are to get states that
            are alike, and the weight of that loss, see :class:`~scgenemamba.train.PathwayContrast`. Needs
            ``scgenemamba[interpret]`` for files. ``"coexpression"`` takes genes that are expressed together in the data.
        n_frozen_layers
            Layers of the encoder, from the input on, that keep their weights, and with any the embeddings; ``"all"``
            trains the heads alone.
        peft_config
            A :class:`peft.LoraConfig`: train low-rank updates of the encoder's input projections instead of its weights; they
            are merged into them in the end. Needs ``scgenemamba[peft]``.
        datasplitter_kwargs, plan_config, plan_kwargs, trainer_config, **trainer_kwargs
            Passed on to :class:`~scvi.dataloaders.DataSplitter`, to
            :class:`~scgenemamba.train.GeneMambaTrainingPlan` and to :class:`~scvi.train.Trainer`. To fine-tune with
            learning rates that fall from layer to layer: ``plan_kwargs={"layer_decay": 0.9}``.
        datamodule
            Source of ragged batches, instead of the registered AnnData.

        Raises
        ------
        ValueError
            If ``supervised=True`` without labels, the data have batches that the decoder does not know, the batch
            size is no positive number, or the vocabulary has no genes of the gene sets.
        """
        has_labels = "cell_type" in self.module.objectives
        if supervised and not has_labels:
            msg = "`supervised=True` needs labels: set up the AnnData with `labels_key=`."
            raise ValueError(msg)
        if has_labels:
            self._objectives()["cell_type"].detached = supervised is False
        if datamodule is None and self.adata is None:
            msg = (
                "The model has no data to train on: set up an AnnData and pass it on, `from_pretrained(source, adata)`."
            )
            raise ValueError(msg)
        if datamodule is None:
            self._check_decoder_inputs()
        n_cells = getattr(datamodule, "n_obs", None) if datamodule is not None else self.adata.n_obs
        if max_epochs is None and n_cells is not None:
            max_epochs = default_epochs(n_cells)
        if train_size is None and n_cells is not None and n_cells < _MIN_CELLS_FOR_VALIDATION:
            train_size = 1.0
        batch_size = self._fit_into_memory(batch_size, accelerator, devices, trainer_kwargs.get("strategy"), datamodule)
        trainer_kwargs.setdefault("early_stopping_monitor", "validation_loss")
        # a model that was trained or loaded before is in evaluation mode, and Lightning leaves it there
        self.module.train()
        if not any(parameter.requires_grad for parameter in self.module.parameters()):
            msg = "There is nothing to train: all weights are frozen, and the query has no new batches. Embed and predict right away."
            raise ValueError(msg)
        given = merge_kwargs(plan_config, plan_kwargs, name="plan")
        plan_kwargs = {"seed": int(settings.seed or 0), **self._plan_defaults, **given}
        network, objectives = self.module.network, self.module.objectives
        n_tokens, sample = self.module.config.n_tokens, partial(self._sample, datamodule)
        with (
            frozen_if(set(objectives) <= set(LANGUAGE), network.latent),
            pathway_contrast(objectives, self.vocabulary, n_tokens, gene_sets, pathway_weight, sample),
            partly_frozen(network.encoder, n_frozen_layers, peft_config),
            out_of_memory_advice(f"Training with batch_size={batch_size}", SMALLER_TRAINING),
        ):
            self._announce_objectives()
            super().train(
                max_epochs=max_epochs,
                accelerator=accelerator,
                devices=devices,
                train_size=train_size,
                validation_size=validation_size,
                shuffle_set_split=shuffle_set_split,
                load_sparse_tensor=load_sparse_tensor,
                batch_size=batch_size,
                early_stopping=early_stopping,
                datasplitter_kwargs=datasplitter_kwargs,
                plan_kwargs=plan_kwargs,
                datamodule=datamodule,
                trainer_config=trainer_config,
                **trainer_kwargs,
            )
        trained = set(self._objectives())
        self.latent_trained_ = self.latent_trained_ or not trained <= set(LANGUAGE)
        self.head_trained_ = self.head_trained_ or bool(trained & set(LANGUAGE))
        self._annotate_after_training(registered=datamodule is None)

    @property
    def history(self) -> dict[str, pd.DataFrame] | None:
        """Training history: a DataFrame per metric, indexed by epoch."""
        return None if self.history_ is None else to_frames(self.history_)

    def _sample(self, datamodule: Any) -> sp.csr_matrix:
        """Cells of the training in token space."""
        if datamodule is None:
            return cells_in_token_space(self.adata, self.registry_)
        if not hasattr(datamodule, "expression"):
            msg = f"gene_sets={COEXPRESSION!r} needs expression values, and the datamodule gives tokens only: give gene sets."
            raise ValueError(msg)
        return datamodule.expression(MAX_CELLS_FOR_ESTIMATES)

    def _check_decoder_inputs(self) -> None:
        obs = self.adata.obs
        unknown = obs[f"_scvi_{BATCH_KEY}"].to_numpy() < 0
        if unknown.any():
            key = self._state_of(BATCH_KEY)["original_key"]
            names = obs.loc[unknown, key].unique() if key in obs else [f"no column {key!r}"]
            msg = f"The decoder does not know the batches {name_some(names)}. Embed these cells, or train a new model on them."
            raise ValueError(msg)

    def _fit_into_memory(
        self,
        batch_size: int | Literal["auto"],
        accelerator: str,
        devices: int | list[int] | str,
        strategy: Any,
        datamodule: Any,
    ) -> int:
        """Cells per step; also decides whether layers are computed twice."""
        if batch_size != "auto" and (not isinstance(batch_size, Integral) or batch_size < 1):
            msg = f"`batch_size` must be 'auto' or a positive number of cells, got {batch_size!r}."
            raise ValueError(msg)
        if any(word in str(strategy) for word in ("fork", "notebook")):
            # a process that has asked a GPU for its memory cannot be forked
            return DEFAULT_BATCH_SIZE if batch_size == "auto" else batch_size
        _, _, device = parse_device_args(accelerator, devices, return_device="torch")
        if datamodule is None:
            # tokens only
            cells = self.adata_manager.create_torch_dataset(data_and_attributes=[])
            some = cells[spread(self.adata.n_obs, _CELLS_FOR_LENGTHS)]
            lengths = np.minimum(some["cu_seqlens"].diff().numpy(), self.module.config.max_tokens)
        elif hasattr(datamodule, "sample"):
            some = [batch["cu_seqlens"].diff().numpy() for batch in datamodule.sample(_CELLS_FOR_LENGTHS)]
            lengths = np.minimum(np.concatenate(some), self.module.config.max_tokens)
        else:
            lengths = np.array([self.module.config.max_tokens])
        n_parameters = sum(p.numel() for p in self.module.parameters())
        return fit_training(self.module.network.encoder, n_parameters, lengths, batch_size, device)

    def _objectives(self) -> dict[str, Objective]:
        return cast("dict[str, Objective]", dict(self.module.objectives.items()))

    def _announce_objectives(self) -> None:
        names = {"nb": "counts given batch", "normal": "log-expression given batch (no counts)"}
        active = []
        for objective in self._objectives().values():
            name = names[self.likelihood_] if objective.name == "counts given batch" else objective.name
            active.append(f"{name} (on the finished embedding)" if objective.detached else name)
        self.objectives_ = active
        logger.info(f"Training on: {', '.join(active)}.")
