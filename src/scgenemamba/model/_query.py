"""Mapping query cells onto a reference model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from scvi.model._utils import parse_device_args
from scvi.utils._docstrings import devices_dsp

from scgenemamba._logging import logger
from scgenemamba.tokens import name_some

from ._constants import BATCH_KEY

if TYPE_CHECKING:
    from anndata import AnnData

_BATCH_WEIGHT = "objectives.counts.decoder.px_decoder.fc_layers.Layer 0.0.weight"


class QueryMixin:
    """Reference mapping; mixed into :class:`~scgenemamba.GeneMambaModel`."""

    # supplied by the model
    module: Any

    @classmethod
    @devices_dsp.dedent
    def load_query_data(
        cls,
        adata: AnnData,
        reference_model: str | Path | Any,
        inplace_subset_query_vars: bool = False,
        accelerator: str = "auto",
        device: int | str = "auto",
        unfrozen: bool = False,
        freeze_dropout: bool = False,
        freeze_expression: bool = True,
        freeze_decoder_first_layer: bool = True,
        freeze_batchnorm_encoder: bool = True,
        freeze_batchnorm_decoder: bool = False,
        freeze_classifier: bool = True,
    ) -> Self:
        """Model of a query that keeps everything a reference has learnt, with the arguments of scvi-tools' scArches.

        The encoder never reads the batch, so query cells can be embedded and annotated at once, and the reference's own
        results stay as they are. Only the decoder needs to learn new batches: :meth:`train` then trains their
        weights and nothing else.

        Parameters
        ----------
        adata
            Query cells; it need not be set up. Genes are matched by name, labels may be missing.
        reference_model
            A model, or the folder of one from :meth:`save` or :meth:`save_pretrained`.
        inplace_subset_query_vars
            Has no effect: genes are matched by name, and ``adata`` is left as it is.
        %(param_accelerator)s
        %(param_device)s
        unfrozen
            Let :meth:`train` change all weights.
        freeze_decoder_first_layer
            Keep the decoder's weights of the reference's batches and of the latent.
        freeze_expression, freeze_classifier
            Keep the encoder, and the classifier.
        freeze_dropout, freeze_batchnorm_encoder, freeze_batchnorm_decoder
            Have no effect: there is neither dropout nor batch norm.

        Returns
        -------
        Model of the query.
        """
        model_class: Any = cls
        reference: Any = reference_model
        if isinstance(reference_model, str | Path):
            reference = _load(model_class, Path(reference_model))
        _, _, torch_device = parse_device_args(accelerator, device, return_device="torch", validate_single_device=True)
        registry = reference.registry_
        model_class.setup_anndata(adata, source_registry=registry, extend_categories=True, **registry["setup_args"])
        init = {key: value for part in reference.init_params_.values() for key, value in part.items()}
        init |= {"architecture": reference.module.config.to_dict(), "registry": None}
        if "counts" in reference.module.objectives:
            init["n_decoder_genes"] = reference.module.objectives["counts"].n_genes
        model: Any = model_class(adata, **init)
        n_known = len(registry["field_registries"][BATCH_KEY]["state_registry"]["categorical_mapping"])
        n_new = model.summary_stats.n_batch - n_known
        _copy_weights(reference.module, model.module, n_known, model.summary_stats.n_batch)
        # decay would move the weights that are to stay
        model._plan_defaults = {} if unfrozen else {"weight_decay": 0.0}
        for name in (
            "is_trained_",
            "latent_trained_",
            "history_",
            "objectives_",
            "annotation_",
            "annotation_labels_",
            "ontology_ids_",
        ):
            setattr(model, name, getattr(reference, name))
        if not unfrozen:
            groups = {"network.": freeze_expression, "objectives.cell_type.": freeze_classifier}
            _freeze(model.module, groups, freeze_decoder_first_layer, n_known if n_new else None)
        if n_new:
            names = model._state_of(BATCH_KEY)["categorical_mapping"][n_known:]
            logger.info(f"New batches, which only the decoder has to learn: {name_some(names)}.")
        model.to_device(torch_device)
        model.module.eval()
        return model


def _load(cls: Any, folder: Path) -> Any:
    if (folder / "model.pt").is_file():
        return cls.load(str(folder), adata=False)
    return cls.from_pretrained(folder)


def _copy_weights(source: Any, target: Any, n_known: int, n_batch: int) -> None:
    """Copy all weights; those of new batches start at the mean of the known ones."""
    old, new = source.state_dict(), target.state_dict()
    if _BATCH_WEIGHT in old and old[_BATCH_WEIGHT].shape != new[_BATCH_WEIGHT].shape:
        # a single batch has no columns in scvi-tools' decoder
        before, after = (n if n > 1 else 0 for n in (n_known, n_batch))
        first, width = source.objectives["counts"].decoder_inputs, old[_BATCH_WEIGHT].shape[1]
        latent, batches, rest = old[_BATCH_WEIGHT].split([first, before, width - first - before], dim=1)
        start = batches.mean(1, keepdim=True) if before else latent.new_zeros(len(latent), 1)
        added = start.expand(-1, after - before)
        old = {**old, _BATCH_WEIGHT: torch.cat([latent, batches, added, rest], dim=1)}
    target.load_state_dict(old)


def _freeze(module: Any, groups: dict[str, bool], freeze_decoder_first_layer: bool, n_known: int | None) -> None:
    """Leave to training what the reference does not know: the columns of new batches, and what is asked for."""
    for name, parameter in module.named_parameters():
        frozen = next((value for prefix, value in groups.items() if name.startswith(prefix)), True)
        parameter.requires_grad_(not frozen)
        if name == _BATCH_WEIGHT and n_known is not None:
            parameter.requires_grad_(True)
            if freeze_decoder_first_layer:
                parameter.register_hook(_KeepKnown(module, n_known))


class _KeepKnown:
    """Gradient of the decoder's first layer without the columns that are not of new batches."""

    def __init__(self, module: Any, n_known: int) -> None:
        counts = module.objectives["counts"]
        first = counts.decoder_inputs
        self.new = slice(first + n_known, first + counts.n_batch)

    def __call__(self, grad: torch.Tensor) -> torch.Tensor:
        kept = torch.zeros_like(grad)
        kept[:, self.new] = grad[:, self.new]
        return kept
