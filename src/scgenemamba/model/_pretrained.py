"""Models from checkpoints."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from scvi.model._utils import parse_device_args
from scvi.utils._docstrings import devices_dsp

from scgenemamba._logging import logger
from scgenemamba.tokens import read_factors

from ._checkpoint import (
    SETUP_DEFAULTS,
    TIED,
    Checkpoint,
    Preprocessing,
    check_arguments,
    fetch,
    is_native,
    load_tensors,
    read_native,
    read_published,
    refuse_changes,
    worries,
)
from ._checkpoint._contents import RANK_MODES
from ._constants import FACTORS_SOURCE, GENE_REPORT, LANGUAGE, MEDIANS, MIN_COUNTS_SHARE, X_KEY
from ._reference import GeneReference, are_missing, estimate_factors
from ._registration import cells_in_token_space, is_set_up, register_to, registry_without_data
from ._scale import warn

if TYPE_CHECKING:
    from anndata import AnnData


class PretrainedMixin:
    """Pretrained weights; mixed into :class:`~scgenemamba.GeneMambaModel`."""

    # supplied by the model
    module: Any
    published_classes_: list[str]
    to_device: Any
    adata: Any
    vocabulary: Any
    registry_: dict[str, Any]
    init_params_: dict[str, Any]
    gene_report_: dict[str, Any]
    latent_trained_: bool
    head_trained_: bool
    is_trained_: bool

    @classmethod
    @devices_dsp.dedent
    def from_pretrained(
        cls,
        source: str | Path,
        adata: AnnData | None = None,
        *,
        subfolder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        fusion: Literal["mean", "sum", "gate", "concat"] | None = None,
        pooling: str | tuple[str, ...] = "mean",
        rank_mode: Literal["median", "raw", "official_downstream"] = "median",
        gene_medians: str | Path | Mapping[str, float] | None = None,
        flip: Literal["masked", "full"] = "masked",
        max_tokens: int | None = None,
        min_counts_share: float = 0.5,
        layer: str | None = None,
        gene_key: str | None = None,
        backend: str = "auto",
        accelerator: str = "auto",
        device: int | str = "auto",
        **model_kwargs: Any,
    ) -> Self:
        """Model with pretrained weights, of a published GeneMamba or of :meth:`save_pretrained`.

        Only safetensors and JSON are read; nothing in a checkpoint is executed.

        Parameters
        ----------
        source
            Folder; repository ``"owner/name"`` of the Hugging Face hub; or ``"pbmc-small"``, a model of human blood that comes
            with the package, see :doc:`/blood`.
        adata
            Cells. Set up before with :meth:`setup_anndata`, they keep their batches and labels, and get a decoder and a
            classifier of their own, to be trained; otherwise they are embedded (and annotated) as they are. ``None``
            takes the first AnnData that a method is given. Genes are matched by name: Ensembl ids with or without
            version, current, previous and alias symbols; ``gene_report_`` says how.
        subfolder, revision, local_files_only
            Folder within the source; branch, tag or commit; and whether to stay off the network.
        fusion
            How the directions of a published encoder are joined. ``None``: ``"mean"``, or where there is an aggregator
            what ``config.json`` says, or ``"gate"``.
        pooling
            What summarises a cell's hidden states: any of ``"mean"``, ``"max"``, ``"cls"``.
        rank_mode
            ``"median"`` divides by the genes' medians, ``"raw"`` ranks the counts themselves, ``"official_downstream"``
            also keeps zeros and unknown genes, as the public code does (for parity only).
        gene_medians
            Median of each gene: a table (TSV, CSV, parquet), JSON, a pickled dictionary (read without running it), or a
            mapping. ``None`` estimates them from the first AnnData.
        flip
            ``"full"`` reverses padding as well, as the public code does (for parity only).
        max_tokens
            Genes read per cell, ``None`` for those of the checkpoint.
        min_counts_share
            Share of the counts that must belong to known genes, else an error.
        layer, gene_key
            Where values and gene names are, as in :meth:`setup_anndata`, for an AnnData that was not set up.
        backend
            As for the model.
        %(param_accelerator)s
        %(param_device)s
        **model_kwargs
            Arguments of the model, such as ``n_latent`` or ``mask_rate``, for published weights or new cells.

        Raises
        ------
        FileNotFoundError, ConnectionError
            If the checkpoint is not there, or cannot be fetched.
        ValueError
            If it is broken, does not fit the arguments, or the data have too few of its genes.
        """
        _, _, torch_device = parse_device_args(accelerator, device, return_device="torch", validate_single_device=True)
        folder = fetch(source, subfolder=subfolder, revision=revision, local_files_only=local_files_only)
        pooling = (pooling,) if isinstance(pooling, str) else tuple(pooling)
        if rank_mode not in RANK_MODES:
            msg = f"Unknown rank_mode {rank_mode!r}; choose one of {list(RANK_MODES)}."
            raise ValueError(msg)
        setup = {"layer": layer, "gene_key": gene_key}
        if is_native(folder):
            checkpoint = read_native(folder)
            asked = {
                "fusion": fusion,
                "pooling": pooling,
                "flip": flip,
                "max_tokens": max_tokens,
                "rank_mode": rank_mode,
            }
            refuse_changes(checkpoint, {**asked, "gene_medians": None if gene_medians is None else "given"})
            if adata is None or not is_set_up(cls, adata):
                model = cls._restore(checkpoint, adata, min_counts_share, setup, backend)
                model.to_device(torch_device)
                return model
        else:
            checkpoint = read_published(folder, fusion=fusion, pooling=pooling, flip=flip, max_tokens=max_tokens)
            factors = None if gene_medians is None else read_factors(gene_medians, checkpoint.vocabulary)
            told = "" if factors is None else _describe(gene_medians)
            checkpoint.preprocessing = Preprocessing(rank_mode, factors, told)
            for worry in worries(checkpoint):
                warn(worry)
        reference = GeneReference(checkpoint.vocabulary, checkpoint.preprocessing, min_counts_share)
        model = cls._fresh(checkpoint, adata, reference, setup, {"backend": backend, **model_kwargs})
        model.to_device(torch_device)
        return model

    @classmethod
    def _fresh(
        cls,
        checkpoint: Checkpoint,
        adata: AnnData | None,
        reference: GeneReference,
        setup: dict[str, Any],
        model_kwargs: dict[str, Any],
    ) -> Self:
        """Model around a pretrained encoder, with new heads for the given cells."""
        given = set(model_kwargs)
        config = replace(checkpoint.config, **{"n_latent": model_kwargs.pop("n_latent")} if "n_latent" in given else {})
        head: Mapping[str, torch.Tensor] = checkpoint.head
        tensors: ChainMap[str, torch.Tensor] = ChainMap({}, checkpoint.encoder)  # type: ignore[arg-type]
        n_tokens = checkpoint.config.n_tokens
        if config.use_cls and n_tokens == checkpoint.vocabulary.n_tokens:
            # as in the published fine-tuning: the mean of all rows
            tensors["embeddings.weight"] = _with_mean_row(tensors["embeddings.weight"])
            head = {name: _with_mean_row(value) for name, value in head.items()}
            n_tokens += 1
        config = replace(config, n_tokens=n_tokens, tied_head=config.tied_head or not head)
        if checkpoint.classifier and config.use_cls:
            model_kwargs = {"published_classes": tuple(checkpoint.classes), **model_kwargs}
        model: Any
        if adata is None:
            registry = registry_without_data(cls, reference, setup)
            model_kwargs = {"n_decoder_genes": 0, **model_kwargs}
            model = cls(registry=registry, architecture=config.to_dict(), **model_kwargs)  # type: ignore[call-arg]
        else:
            register_to(cls, adata, reference, setup)
            model = cls(adata, architecture=config.to_dict(), **model_kwargs)  # type: ignore[call-arg]
        if "mask_embedding" not in tensors:
            tensors["mask_embedding"] = tensors["embeddings.weight"].mean(0)
        load_tensors(model.module.network.encoder, tensors)
        for name in set(LANGUAGE) & set(model.module.objectives) if head else ():
            load_tensors(model.module.objectives[name].head, head)
        if model.module.published_classifier is not None:
            load_tensors(model.module.published_classifier, checkpoint.classifier)
        model.is_trained_, model.latent_trained_, model.head_trained_ = True, False, bool(head)
        model.module.eval()
        return model

    @classmethod
    def _restore(
        cls, checkpoint: Checkpoint, adata: AnnData | None, least: float, setup: dict[str, Any], backend: str
    ) -> Self:
        """Model as it was saved; an AnnData is registered by its registry."""
        saved = checkpoint.saved
        registry = saved["registry"]
        told = {key: value for key, value in setup.items() if value is not None}
        registry["setup_args"] = {**SETUP_DEFAULTS, **registry["setup_args"], **told}
        registry["field_registries"][X_KEY]["state_registry"][MIN_COUNTS_SHARE] = float(least)
        init = {key: value for part in saved["init"].values() for key, value in part.items()}
        # models saved before there were these arguments stay what they were
        init = {"prior": "normal", "alignment_weight": 0.0, "n_hidden": 128, **init}
        init |= {"architecture": checkpoint.config.to_dict(), "backend": backend}
        check_arguments(init, cls.__init__)
        model: Any
        try:
            model = cls(registry=registry, **init)  # type: ignore[call-arg]
        except (TypeError, KeyError, AttributeError) as error:
            msg = f"config.json describes no model: {error}"
            raise ValueError(msg) from error
        tensors = ChainMap({}, saved["state"])
        if checkpoint.config.tied_head:
            heads = model.module.state_dict().keys() & set(TIED)
            tensors |= dict.fromkeys(heads, checkpoint.encoder["embeddings.weight"])
        load_tensors(model.module, tensors)
        for name, value in saved["attributes"].items():
            setattr(model, name, value)
        model.module.eval()
        if adata is not None:
            model._validate_anndata(adata)
        return model

    def _validate_anndata(self, adata: AnnData | None = None, copy_if_view: bool = True) -> AnnData:
        """As scvi-tools', and keeps the report of the gene matching."""
        adata = super()._validate_anndata(adata, copy_if_view)  # type: ignore[misc]
        manager = self.get_anndata_manager(adata)  # type: ignore[attr-defined]
        state = manager.registry["field_registries"][X_KEY]["state_registry"]
        if are_missing(state):
            factors, told = estimate_factors(cells_in_token_space(adata, self.registry_))
            for registered in (state, self._expression_state()):
                registered.update({MEDIANS: factors, FACTORS_SOURCE: told})
            logger.info(f"Rank factors: {told}.")
        self.gene_report_ = state.get(GENE_REPORT, {})
        return adata

    def _expression_state(self) -> dict[str, Any]:
        return self.registry_["field_registries"][X_KEY]["state_registry"]


def _with_mean_row(values: torch.Tensor) -> torch.Tensor:
    return torch.cat([values, values.mean(0, keepdim=True)])


def _describe(gene_medians: Any) -> str:
    return f"table {Path(gene_medians).name}" if isinstance(gene_medians, str | Path) else "a mapping given by the user"
