"""Counts given batch: decode a cell's expression from its latent and its batch."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from scvi.distributions import NegativeBinomial
from scvi.nn import DecoderSCVI
from torch import nn
from torch.distributions import Normal

from ._objective import Objective

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scgenemamba.nn import Encoded
    from scgenemamba.tokens import CellBatch

    from ._prior import MixturePrior

# layers of scvi-tools' decoder for distributions that are not used here: two thirds of its weights
_UNUSED = ("px_r_decoder", "px_dropout_decoder")
_HIDDEN_BIAS = "decoder.px_decoder.fc_layers.Layer 0.0.bias"


def is_unused(name: str) -> bool:
    """Whether a tensor of a saved model belongs to a layer of the decoder that does nothing."""
    return any(f".{layer}." in name for layer in _UNUSED)


class CountsGivenBatch(Objective):
    """Evidence lower bound of the cell's expression, with scvi-tools' decoder and distributions.

    The decoder is told the batch and the covariates, the encoder never is; the Kullback-Leibler term makes
    information in the latent cost, so what the decoder knows anyway (the batch) leaves the latent.

    Parameters
    ----------
    n_latent, n_genes, n_batch
        Sizes of the latent, of the decoder's gene set, and number of batches.
    n_cats_per_cov, n_continuous_cov
        Categories of each categorical covariate, and number of continuous ones.
    n_hidden
        Width of the decoder's hidden layer.
    likelihood
        ``"nb"``: negative binomial of counts with a dispersion per gene. ``"normal"``: normal of
        ``log1p`` of values scaled to 10,000, for data without counts.
    prior
        What the latent is expected to be, ``None`` for a standard normal distribution.
    kl_weight, weight
        Factor of the Kullback-Leibler term relative to the reconstruction, and factor of both.
    """

    name: ClassVar[str] = "counts given batch"
    target_sum: ClassVar[float] = 1e4

    def __init__(
        self,
        n_latent: int,
        n_genes: int,
        n_batch: int,
        *,
        n_cats_per_cov: Sequence[int] = (),
        n_continuous_cov: int = 0,
        n_hidden: int = 256,
        likelihood: Literal["nb", "normal"] = "nb",
        prior: MixturePrior | None = None,
        kl_weight: float = 1.0,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.kl_weight = kl_weight
        self.weight = weight
        self.n_genes, self.n_batch = n_genes, n_batch
        # columns of its first layer before those of the batches
        self.decoder_inputs = n_latent + n_continuous_cov
        self._new_decoder = partial(
            DecoderSCVI,
            self.decoder_inputs,
            n_genes,
            n_cat_list=[n_batch, *n_cats_per_cov],
            n_layers=1,
            # batch statistics would tie a cell to its batch mates
            use_batch_norm=False,
            use_layer_norm=True,
        )
        self.decoder = self._make_decoder(n_hidden)
        self.log_dispersion = nn.Parameter(torch.zeros(n_genes))
        self.prior = prior

    def _make_decoder(self, n_hidden: int) -> DecoderSCVI:
        decoder = self._new_decoder(n_hidden=n_hidden)
        for name in _UNUSED:
            setattr(decoder, name, nn.Identity())
        return decoder

    @property
    def n_hidden(self) -> int:
        """Width of the decoder's hidden layer."""
        return self.decoder.px_decoder.fc_layers[0][0].out_features

    def loss(self, batch: CellBatch, encoded: Encoded) -> dict[str, torch.Tensor]:
        """Mean negative log-likelihood and weighted Kullback-Leibler divergence per cell, in nats."""
        posterior = Normal(encoded.mean, encoded.variance.sqrt())
        expression = batch["expression"][:, : self.n_genes]
        z = posterior.rsample()
        log_likelihood = self._log_likelihood(expression, batch, z).sum(-1)
        if self.prior is None:
            kl = torch.distributions.kl_divergence(posterior, Normal(0.0, 1.0)).sum(-1)
        else:
            # a mixture has no closed form: the same sample says what it costs
            kl = posterior.log_prob(z).sum(-1) - self.prior.log_prob(z)
        return {
            "reconstruction_loss": -self.weight * log_likelihood.mean(),
            "kl": self.weight * self.kl_weight * kl.mean(),
        }

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        hidden = state_dict.get(f"{prefix}{_HIDDEN_BIAS}")
        if hidden is not None and len(hidden) != self.n_hidden:
            # models saved before the width could be chosen do not tell it otherwise
            self.decoder = self._make_decoder(len(hidden))
        for name in [name for name in state_dict if is_unused(name)]:
            # models saved before these were left out have them
            del state_dict[name]
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _log_likelihood(self, expression: torch.Tensor, batch: CellBatch, z: torch.Tensor) -> torch.Tensor:
        total = expression.sum(-1, keepdim=True).clamp(min=1e-8)
        if self.likelihood == "normal":
            target = torch.log1p(expression / total * self.target_sum)
            library = torch.full_like(total, self.target_sum).log()
        else:
            library = batch["size_factor"].log() if "size_factor" in batch else total.log()
        if "extra_continuous_covs" in batch:
            z = torch.cat([z, batch["extra_continuous_covs"]], dim=-1)
        categories = [batch["batch"]]
        if "extra_categorical_covs" in batch:
            categories += list(batch["extra_categorical_covs"].split(1, dim=-1))
        _, _, rate, _ = self.decoder("gene", z, library, *categories)
        if self.likelihood == "normal":
            return Normal(torch.log1p(rate), self.log_dispersion.exp()).log_prob(target)
        return NegativeBinomial(mu=rate, theta=self.log_dispersion.exp()).log_prob(expression)
