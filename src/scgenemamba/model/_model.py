"""GeneMambaModel: the AnnData-facing model."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import rich.pretty  # noqa: F401  (scvi-tools 1.4 uses it without importing it)
from scvi.model.base import BaseModelClass
from scvi.utils import setup_anndata_dsp

from scgenemamba.nn import GeneMambaConfig
from scgenemamba.tokens import Scale, Vocabulary
from scgenemamba.train import GeneMambaTrainingPlan

from ._annotation import AnnotationMixin
from ._annotation_fitting import AnnotationFittingMixin
from ._constants import CATEGORICAL_KEY, CONTINUOUS_KEY, GENE_REPORT, GENES, LANGUAGE, SCALE, VARIABLE_GENES, X_KEY
from ._inference import InferenceMixin
from ._loading import DataSplitter
from ._module import GeneMambaModule
from ._presets import default_learning_rate, resolve_preset
from ._pretrained import PretrainedMixin
from ._query import QueryMixin
from ._runner import PlainHistoryRunner
from ._saving import SavingMixin
from ._setup import register, resolve_likelihood
from ._streaming import StreamingMixin
from ._training import TrainingMixin

if TYPE_CHECKING:
    from anndata import AnnData


class GeneMambaModel(
    PretrainedMixin,
    StreamingMixin,
    SavingMixin,
    QueryMixin,
    AnnotationFittingMixin,
    AnnotationMixin,
    InferenceMixin,
    TrainingMixin,
    BaseModelClass,
):
    """GeneMamba: a bidirectional Mamba-2 encoder of rank-ordered gene tokens.

    Parameters
    ----------
    adata
        AnnData registered with :meth:`setup_anndata`.
    registry
        Registry of a model whose data are not at hand, instead of ``adata``.
    preset
        Size: ``"tiny"`` (2 layers x 64, 256 genes per cell), ``"small"`` (2 x 128, 256), ``"medium"``
        (4 x 256, 512) or ``"large"`` (24 x 512, 2,048, the paper's). The arguments below replace its values.
    n_layers, d_model, d_state, max_tokens
        Layers, width, state size, and genes read per cell. ``n_layers=0`` has no backbone: a cell is its genes'
        embeddings, pooled.
    fusion
        How the two directions are joined in each layer; ``"alternate"`` has layers that take turns in direction.
    pooling
        What summarises a cell's hidden states: any of ``"mean"``, ``"max"``, ``"cls"``.
    n_latent
        Size of the latent representation.
    n_decoder_genes
        Most variable genes that the decoder models, at most 4,000; 0 for no decoder.
    n_hidden
        Width of the decoder's hidden layer.
    gene_likelihood
        ``"nb"`` for counts, ``"normal"`` for log-normalised values; ``"auto"`` takes what the data allow.
    language
        What is learnt over the vocabulary: ``"masked_genes"`` predicts hidden genes from all others; ``"next_token"`` each gene
        from those before it and, separately, from those after it; ``"leaky_next_token"`` is the loss of the paper's public
        code, whose targets are among what the encoder reads, for comparisons.
    mask_rate, masked_weight
        Share of hidden genes, and weight of that loss.
    masked_last
        Move hidden genes behind the others, so that their neighbours do not give them away, see
        :class:`~scgenemamba.train.MaskedGenes`.
    prior
        What the latent is expected to be: a learned ``"mixture"`` of 24 Gaussians, which leaves cell types room of their
        own, or the standard ``"normal"`` distribution.
    kl_weight, label_weight
        Weights of the Kullback-Leibler term and of the cell type loss.
    alignment_weight
        Weight of the loss that brings cells of one kind from different batches together, see
        :class:`~scgenemamba.train.BatchAlignment`; 0 for none. It needs batches and the decoder.
    backend
        Implementation of the scan: ``"torch"``, ``"fused"`` or ``"mamba_ssm"``; ``"auto"`` takes the fastest that runs on
        the device of the data. Not saved with the model.
    architecture
        Values of a :class:`~scgenemamba.nn.GeneMambaConfig`, instead of the preset and the sizes: that of a pretrained
        encoder, see :meth:`from_pretrained`.
    published_classes
        Names of the classes of a classifier that came with published weights.

    Examples
    --------
    >>> GeneMambaModel.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    >>> model = GeneMambaModel(adata)
    >>> model.train()
    >>> adata.obsm["X_genemamba"] = model.get_latent_representation()
    >>> adata.obs["pred"] = model.predict()
    """

    _module_cls = GeneMambaModule
    _data_splitter_cls = DataSplitter
    _training_plan_cls = GeneMambaTrainingPlan
    _train_runner_cls = PlainHistoryRunner

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        preset: str = "small",
        n_layers: int | None = None,
        d_model: int | None = None,
        d_state: int = 64,
        max_tokens: int | None = None,
        fusion: Literal["mean", "sum", "gate", "concat", "alternate"] = "mean",
        pooling: tuple[str, ...] = ("mean", "max"),
        n_latent: int = 32,
        n_decoder_genes: int = 2000,
        n_hidden: int = 256,
        gene_likelihood: Literal["auto", "nb", "normal"] = "auto",
        language: Literal["masked_genes", "next_token", "leaky_next_token"] = "masked_genes",
        mask_rate: float = 0.15,
        masked_weight: float = 0.3,
        masked_last: bool = False,
        prior: Literal["mixture", "normal"] = "mixture",
        kl_weight: float = 1.0,
        alignment_weight: float = 50.0,
        label_weight: float = 10.0,
        backend: str = "auto",
        architecture: dict[str, Any] | None = None,
        published_classes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(adata, registry)
        state = self._state_of(X_KEY)
        self.vocabulary = Vocabulary(state[GENES])
        self.likelihood_ = resolve_likelihood(gene_likelihood, Scale(**state[SCALE]))
        sizes = resolve_preset(preset, n_layers=n_layers, d_model=d_model, max_tokens=max_tokens)
        if architecture is None:
            config = GeneMambaConfig(
                n_tokens=self.vocabulary.n_tokens + ("cls" in pooling),
                d_state=d_state,
                fusion=fusion,
                pooling=tuple(pooling),
                n_latent=n_latent,
                **sizes,
            )
        else:
            config = GeneMambaConfig.from_dict(architecture)
        # pretrained weights are trained on with the plan's own learning rate
        self._plan_defaults = {"lr": default_learning_rate(config.d_model)} if architecture is None else {}
        self.module = self._module_cls(
            config,
            n_cells=self.summary_stats.get("n_cells", 0),
            n_decoder_genes=min(n_decoder_genes, len(state[VARIABLE_GENES])),
            n_hidden=n_hidden,
            n_batch=self.summary_stats.n_batch,
            n_labels=self.summary_stats.n_labels - 1,
            n_cats_per_cov=tuple(self._state_of(CATEGORICAL_KEY).get("n_cats_per_key", ())),
            n_continuous_cov=self.summary_stats.get(f"n_{CONTINUOUS_KEY}", 0),
            gene_likelihood=self.likelihood_,
            language=language,
            mask_rate=mask_rate,
            masked_weight=masked_weight,
            masked_last=masked_last,
            prior=prior,
            kl_weight=kl_weight,
            alignment_weight=alignment_weight,
            label_weight=label_weight,
            backend=backend,
            n_published_classes=len(published_classes),
        )
        self.published_classes_ = list(published_classes)
        self.objectives_: list[str] = []
        self.annotation_: dict[str, Any] = {}
        self.annotation_labels_: list[Any] = []
        self.ontology_ids_: dict[str, str] = {}
        # objectives over the vocabulary do not reach the latent; with a pretrained encoder either may lack training
        self.latent_trained_, self.head_trained_ = not set(self.module.objectives) <= set(LANGUAGE), True
        self.gene_report_: dict[str, Any] = state.get(GENE_REPORT, {})
        self._model_summary_string = (
            f"GeneMambaModel with {config.n_layers} layers x {config.d_model}, {config.max_tokens} genes per cell of "
            f"{len(self.vocabulary)}, latent size {config.n_latent}, {self.summary_stats.n_batch} batches, "
            f"{self.summary_stats.n_labels - 1} labels, {self._describe_decoder()}"
        )
        self.init_params_ = self._get_init_params(locals())
        # not part of a saved model: where it is loaded, another back-end may be the best, or the only one
        self.init_params_["non_kwargs"]["backend"] = "auto"

    @classmethod
    @setup_anndata_dsp.dedent
    def setup_anndata(
        cls,
        adata: AnnData,
        layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        unlabeled_category: str = "Unknown",
        gene_key: str | None = None,
        use_raw: bool = False,
        size_factor_key: str | None = None,
        categorical_covariate_keys: list[str] | None = None,
        continuous_covariate_keys: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """%(summary)s.

        One pass over the data checks the values, builds the vocabulary from the genes that any cell expresses, and
        estimates their rank factors and variability.

        Parameters
        ----------
        %(param_adata)s
        %(param_layer)s
        %(param_batch_key)s
        %(param_labels_key)s
        unlabeled_category
            Value of ``adata.obs[labels_key]`` that means "no label"; missing values mean the same.
        gene_key
            Column of ``adata.var`` that holds the gene names, ``None`` for ``adata.var_names``. Columns with the
            same name are summed.
        use_raw
            Read ``adata.raw`` instead of ``adata.X``.
        %(param_size_factor_key)s
        %(param_cat_cov_keys)s
        %(param_cont_cov_keys)s

        Raises
        ------
        ValueError
            If values are negative, not finite, or logarithms of unknown base; if there are no genes or no labels.
        KeyError
            If a column does not exist.
        """
        manager = register(cls, adata, cls._get_setup_method_args(**locals()), **kwargs)
        manager.by_user = "source_registry" not in kwargs

    @classmethod
    def load(
        cls, dir_path: str, adata: AnnData | Literal[False] | None = None, *args: Any, **kwargs: Any
    ) -> GeneMambaModel:
        """Load a model saved with :meth:`save`; arguments as in :meth:`scvi.model.base.BaseModelClass.load`.

        Genes are matched by name: ``adata`` may have other genes, or the same in another order.
        """
        with warnings.catch_warnings():
            # positions do not matter here, and our own report of the overlap replaces this one
            warnings.filterwarnings("ignore", message="`var_names` for the loaded `model`")
            model = super().load(dir_path, adata, *args, **kwargs)
        if "counts" in model.module.objectives:
            # files from before this was an argument hold it in their weights only
            model.init_params_["non_kwargs"]["n_hidden"] = model.module.objectives["counts"].n_hidden
        return model

    def __repr__(self) -> str:
        status = "trained" if self.is_trained_ else "not trained"
        return f"{self._model_summary_string}; {status}"

    def _describe_decoder(self) -> str:
        if "counts" not in self.module.objectives:
            return "no decoder"
        return f"decoder of {self.module.objectives['counts'].n_genes} genes ({self.likelihood_})"

    def _state_of(self, key: str) -> dict[str, Any]:
        return self.registry_["field_registries"].get(key, {}).get("state_registry", {})
