"""The network and its objectives as a scvi-tools module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch
from scvi.module.base import BaseModuleClass
from torch import nn

from scgenemamba.nn import (
    Classifier,
    Encoded,
    GeneMambaConfig,
    GeneMambaNetwork,
    GeneReadout,
    PublishedClassifier,
    Reading,
    TokenHead,
    truncate,
)
from scgenemamba.tokens import CellBatch
from scgenemamba.train import (
    BatchAlignment,
    CellType,
    CountsGivenBatch,
    LeakyNextToken,
    MaskedGenes,
    MixturePrior,
    NextToken,
    Objective,
    PreviousToken,
)


class GeneMambaModule(BaseModuleClass):
    """Encoder, latent and the objectives that train them.

    Parameters
    ----------
    config
        Architecture.
    n_cells
        Cells of the data, 0 if that is not known.
    n_decoder_genes, n_hidden, n_batch
        Size of the decoder's gene set (0 for no decoder), width of its hidden layer, and number of batches.
    n_labels
        Number of labels, without the unlabelled category; 0 for no classifier.
    n_cats_per_cov, n_continuous_cov
        Covariates of the decoder.
    gene_likelihood
        Likelihood of the decoder, see :class:`~scgenemamba.train.CountsGivenBatch`.
    prior
        Prior of the latent: a learned mixture, or the standard normal distribution.
    language
        Objective over the vocabulary, see :class:`~scgenemamba.GeneMambaModel`.
    mask_rate, masked_weight, masked_last, kl_weight, alignment_weight, label_weight
        Settings of the objectives.
    n_published_classes
        Classes of a classifier that came with published weights, 0 for none.
    backend
        Implementation of the scan.

    Attributes
    ----------
    half_precision
        Run the encoder in bfloat16 on GPUs.
    """

    def __init__(
        self,
        config: GeneMambaConfig,
        *,
        n_cells: int,
        n_decoder_genes: int,
        n_hidden: int,
        n_batch: int,
        n_labels: int,
        n_cats_per_cov: tuple[int, ...],
        n_continuous_cov: int,
        gene_likelihood: Literal["nb", "normal"],
        prior: Literal["mixture", "normal"],
        language: Literal["masked_genes", "next_token", "leaky_next_token"],
        mask_rate: float,
        masked_weight: float,
        masked_last: bool,
        kl_weight: float,
        alignment_weight: float,
        label_weight: float,
        backend: str,
        n_published_classes: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.half_precision = True
        self.network = GeneMambaNetwork(config, backend)
        objectives: dict[str, Objective] = {}
        if n_decoder_genes:
            objectives["counts"] = CountsGivenBatch(
                config.n_latent,
                n_decoder_genes,
                n_batch,
                n_cats_per_cov=n_cats_per_cov,
                n_continuous_cov=n_continuous_cov,
                n_hidden=n_hidden,
                likelihood=gene_likelihood,
                prior=_prior(prior, config.n_latent),
                kl_weight=kl_weight,
            )
            # without a decoder nothing would hold the latent against it
            if n_batch > 1 and alignment_weight > 0:
                queue = {"queue_size": n_cells} if n_cells else {}
                objectives["batch_alignment"] = BatchAlignment(
                    config.n_latent, n_decoder_genes, n_batch, weight=alignment_weight, **queue
                )
        if masked_weight > 0:
            objectives |= self._language(language, mask_rate, masked_weight, masked_last)
        if n_labels:
            # labels must not change the random numbers that everything else starts from
            with torch.random.fork_rng(devices=[]):
                classifier = Classifier(config.n_latent, n_labels)
                objectives["cell_type"] = CellType(
                    classifier, GeneReadout(config.n_tokens, n_labels), weight=label_weight
                )
        self.objectives = nn.ModuleDict(objectives)
        published = PublishedClassifier(config.d_model, n_published_classes) if n_published_classes else None
        self.published_classifier = published

    def _language(self, name: str, mask_rate: float, weight: float, last: bool) -> dict[str, Objective]:
        """Objectives over the vocabulary, each with a head of its own."""
        tied = self.network.encoder.embeddings.weight if self.config.tied_head else None

        def head() -> TokenHead:
            return TokenHead(self.config.d_model, self.config.n_tokens, tied=tied)

        if name == "masked_genes":
            return {name: MaskedGenes(head(), mask_rate=mask_rate, weight=weight, last=last)}
        if name == "next_token":
            kinds: tuple[type[NextToken], ...] = (NextToken, PreviousToken)
        elif name == "leaky_next_token":
            kinds = (LeakyNextToken,)
        else:
            msg = f"Unknown objective {name!r}; choose 'masked_genes', 'next_token' or 'leaky_next_token'."
            raise ValueError(msg)
        return {kind.key: kind(head(), weight=weight / len(kinds)) for kind in kinds}

    @property
    def flops_per_token(self) -> float:
        """Floating point operations of a forward pass for a token: layers, and the head on the tokens that it predicts."""
        predicted = sum(float(cast("Objective", o).predicted_share) for o in self.objectives.values())
        return self.config.flops_per_token + 2.0 * predicted * self.config.d_model * self.config.n_tokens

    def truncate(self, batch: CellBatch) -> CellBatch:
        """Cut each cell to the tokens that the model reads."""
        tokens, cu_seqlens = truncate(batch["tokens"], batch["cu_seqlens"], self.config.max_tokens)
        return {**batch, "tokens": tokens, "cu_seqlens": cu_seqlens}

    def encode(self, batch: CellBatch, masked: torch.Tensor | None = None, reading: Reading = "both") -> Encoded:
        """Encode truncated cells, with the masked tokens hidden.

        Parameters
        ----------
        batch
            Cells from :meth:`truncate`.
        masked
            bool ``(t,)``, tokens to hide, ``None`` for none.
        reading
            Directions in which the encoder reads.
        """
        device = batch["tokens"].device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda" and self.half_precision):
            return self.network(batch["tokens"], batch["cu_seqlens"], masked, reading)

    @contextmanager
    def full_precision(self) -> Iterator[None]:
        """Within, the encoder computes in float32 on GPUs too: half precision rounds off what single genes change."""
        before, self.half_precision = self.half_precision, False
        try:
            yield
        finally:
            self.half_precision = before

    def forward(self, batch: CellBatch) -> Encoded:
        """Encode cells as they come from a data loader."""
        return self.encode(self.truncate(batch))

    def classify(self, encoded: Encoded) -> torch.Tensor:
        """Probabilities of the labels, float32 ``(n, n_labels)``: of the model's own classifier, else the published one."""
        if "cell_type" in self.objectives:
            objective: Any = self.objectives["cell_type"]
            return objective.probabilities(encoded)
        assert self.published_classifier is not None
        place = self.config.pooling.index("cls") * self.config.d_model
        state = encoded.pooled[:, place : place + self.config.d_model]
        return self.published_classifier(state).softmax(-1)


def _prior(name: str, n_latent: int) -> MixturePrior | None:
    if name not in ("mixture", "normal"):
        msg = f"Unknown prior {name!r}; choose 'mixture' or 'normal'."
        raise ValueError(msg)
    # the prior must not change the random numbers that everything else starts from
    with torch.random.fork_rng(devices=[]):
        return MixturePrior(n_latent) if name == "mixture" else None
