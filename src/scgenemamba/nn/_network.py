"""The whole network: from ranked genes to hidden states and the latent of each cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from ._encoder import BiMambaEncoder
from ._latent import GaussianLatent
from ._layout import cell_of_token
from ._pooling import Pooling
from ._transfer import send

if TYPE_CHECKING:
    from ._config import GeneMambaConfig
    from ._layout import Reading


# of published vocabularies, and of ours
_PAD = 1


@dataclass(frozen=True, eq=False)
class Encoded:
    """What the network knows of a batch of cells.

    Where the configuration pools ``[CLS]``, the sequences here begin with it: ``tokens``, ``cu_seqlens``,
    ``masked`` and ``hidden`` have one entry more per cell than the input.

    Attributes
    ----------
    hidden
        Last hidden states, ``(t, d)``.
    tokens
        Tokens as they were given, before masking, ``(t,)``.
    cu_seqlens
        Where the cells begin and end, ``(n + 1,)``.
    masked
        Tokens that were hidden from the encoder, bool ``(t,)``, or ``None``.
    pooled
        Pooled hidden states, ``(n, p)``.
    mean, variance
        Of the latent, ``(n, n_latent)`` each.
    """

    hidden: torch.Tensor
    tokens: torch.Tensor
    cu_seqlens: torch.Tensor
    masked: torch.Tensor | None
    pooled: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor


class GeneMambaNetwork(nn.Module):
    """Encoder, pooling and latent.

    Parameters
    ----------
    config
        Architecture.
    backend
        Back-end of the encoder's layers, see :func:`resolve_backend`.
    """

    def __init__(self, config: GeneMambaConfig, backend: str = "auto") -> None:
        super().__init__()
        self.config = config
        self.encoder = BiMambaEncoder(config, backend)
        self.pooling = Pooling(config.pooling)
        self.latent = GaussianLatent(self.pooling.output_dim(config.d_model), config.n_latent)

    def forward(
        self,
        tokens: torch.Tensor,
        cu_seqlens: torch.Tensor,
        masked: torch.Tensor | None = None,
        reading: Reading = "both",
        embedded: torch.Tensor | None = None,
    ) -> Encoded:
        """Encode cells that were cut by :func:`truncate`.

        Parameters
        ----------
        tokens
            Tokens of all cells end to end, int ``(t,)``.
        cu_seqlens
            Where the cells begin and end, int ``(n + 1,)``. On the CPU, a device need not be waited for.
        masked
            Tokens to hide from the encoder, bool ``(t,)``; they take no part in mean and max either.
        reading
            Directions in which the encoder reads.
        embedded
            Vectors to read in place of the tokens' own, ``(t, d)``, see :meth:`BiMambaEncoder.embed`.
        """
        keep, given = None if masked is None else ~masked, cu_seqlens
        cu_seqlens = send(cu_seqlens, tokens.device)
        if self.config.use_cls:
            tokens, cu_seqlens, masked, keep = self._prepend_cls(tokens, cu_seqlens, masked)
            embedded, given = None if embedded is None else self._with_cls(embedded, tokens), cu_seqlens
        hidden = self._hidden(tokens, given, masked, reading, embedded)
        pooled = self.pooling(hidden, cu_seqlens, keep)
        mean, variance = self.latent(pooled)
        return Encoded(hidden, tokens, cu_seqlens, masked, pooled, mean, variance)

    def _hidden(
        self,
        tokens: torch.Tensor,
        cu_seqlens: torch.Tensor,
        masked: torch.Tensor | None,
        reading: Reading,
        embedded: torch.Tensor | None,
    ) -> torch.Tensor:
        if self.config.flip == "masked":
            return self.encoder(tokens, cu_seqlens, masked, reading=reading, embedded=embedded)
        # the padding is read as well, then left out
        cu_seqlens = send(cu_seqlens, tokens.device)
        length = self.config.max_tokens + self.config.use_cls
        cell = cell_of_token(cu_seqlens)
        place = cell * length + torch.arange(len(tokens), device=tokens.device) - cu_seqlens[cell]
        bounds = torch.arange(len(cu_seqlens), device=tokens.device) * length
        filled = tokens.new_full((int(bounds[-1]),), _PAD)
        filled[place] = tokens
        if masked is not None:
            hidden = torch.zeros_like(filled, dtype=torch.bool)
            hidden[place] = masked
            masked = hidden
        if embedded is not None:
            embedded = self.encoder.embed(filled, masked).index_copy(0, place, embedded)
        return self.encoder(filled, bounds, masked, reading=reading, embedded=embedded)[place]

    def _with_cls(self, embedded: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Vectors of all tokens, where those of ``[CLS]`` are its own."""
        (place,) = (tokens != self.config.n_tokens - 1).nonzero(as_tuple=True)
        return self.encoder.embed(tokens).index_copy(0, place, embedded)

    def _prepend_cls(
        self, tokens: torch.Tensor, cu_seqlens: torch.Tensor, masked: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor]:
        n_cells = len(cu_seqlens) - 1
        cell = cell_of_token(cu_seqlens)
        moved = torch.arange(len(tokens), device=tokens.device) + cell + 1
        longer = tokens.new_full((len(tokens) + n_cells,), self.config.n_tokens - 1)
        longer[moved] = tokens
        keep = torch.zeros(len(longer), dtype=torch.bool, device=tokens.device)
        keep[moved] = True if masked is None else ~masked
        if masked is not None:
            hidden = torch.zeros_like(keep)
            hidden[moved] = masked
            masked = hidden
        bounds = cu_seqlens + torch.arange(n_cells + 1, dtype=cu_seqlens.dtype, device=cu_seqlens.device)
        return longer, bounds, masked, keep
