"""The encoder: embedding, bidirectional layers, final norm."""

from __future__ import annotations

from functools import partial
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from ._backend import check_backend, resolve_backend
from ._block import BiMambaBlock
from ._fusion import OF_BOTH, make_aggregator
from ._layout import Packed, Padded
from ._norm import RMSNorm
from ._pieces import cut_into_pieces
from ._replay import Replay
from ._transfer import send

if TYPE_CHECKING:
    from ._backend import Backend
    from ._config import GeneMambaConfig
    from ._layout import Layout, Reading

_EMBEDDING_STD = 0.02
# On a CPU the temporaries of a piece should be few enough to be reused; a GPU wants few launches.
_PIECE_TOKENS = {"cpu": 2048}
_PIECE_TOKENS_ELSEWHERE = 65536


class BiMambaEncoder(nn.Module):
    """Hidden states of the tokens of cells, each cell read in both directions.

    Parameters
    ----------
    config
        Architecture.
    backend
        Back-end of the layers, see :func:`resolve_backend`.

    Attributes
    ----------
    backend
        Name of the back-end, resolved on the device of each batch.
    piece_tokens
        Padded tokens that run through the layers at a time, ``None`` for what suits the device. Changes speed
        and memory, not results.
    recompute
        Keep only the input of each layer for the gradient, and compute the layer again: slower by about a third.
        Changes memory, not results.
    """

    def __init__(self, config: GeneMambaConfig, backend: str = "auto") -> None:
        super().__init__()
        check_backend(backend)
        self.config, self.backend = config, backend
        self.piece_tokens: int | None = None
        self.recompute = False
        self.embeddings = nn.Embedding(config.n_tokens, config.d_model)
        self.mask_embedding = nn.Parameter(torch.empty(config.d_model))
        self.layers = nn.ModuleList(BiMambaBlock(config, index) for index in range(config.n_layers))
        shared = config.fusion in OF_BOTH and config.shared_aggregator and config.n_layers > 0
        self.aggregator = make_aggregator(config.d_model) if shared else None
        self.norm_f = RMSNorm(config.d_model)
        self._replay = Replay()
        self._initialise()

    def _initialise(self) -> None:
        nn.init.normal_(self.embeddings.weight, std=_EMBEDDING_STD)
        nn.init.normal_(self.mask_embedding, std=_EMBEDDING_STD)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                # keeps the variance of the residual stream from growing with depth
                if name.endswith("out_proj.weight"):
                    parameter.div_(len(self.layers) ** 0.5)

    def forward(
        self,
        tokens: torch.Tensor,
        cu_seqlens: torch.Tensor,
        masked: torch.Tensor | None = None,
        *,
        reading: Reading = "both",
        packed: bool | None = None,
        embedded: torch.Tensor | None = None,
        backend: Backend | None = None,
    ) -> torch.Tensor:
        """Encode cells given end to end.

        Parameters
        ----------
        tokens
            Tokens of all cells, int ``(t,)``.
        cu_seqlens
            Where the cells begin and end, int ``(n + 1,)``; cells may be empty. On the CPU, a device need not be waited for.
        masked
            Tokens to replace by ``[MASK]``, bool ``(t,)``.
        reading
            ``"ahead"``: no state knows of later tokens; ``"back"``: none knows of earlier ones. Every layer then reads in
            that direction only.
        packed
            Run all cells in one packed sequence, instead of padded pieces; ``None`` for what suits the back-end.
        embedded
            Vectors to read in place of the tokens' own, ``(t, d)``, see :meth:`embed`.
        backend
            Runs the layers, ``None`` for the encoder's own.

        Returns
        -------
        Hidden states, ``(t, d)``.
        """
        # the only wait for the device, if they lie there
        bounds = cu_seqlens.tolist()
        cu_seqlens = send(cu_seqlens, tokens.device)
        if bounds[-1] != len(tokens):
            msg = f"cu_seqlens ends at {bounds[-1]}, but there are {len(tokens)} tokens."
            raise ValueError(msg)
        if not len(tokens):
            return self.embeddings(tokens)
        replays = backend is None and not torch.is_grad_enabled()
        backend = self._backend(tokens.device) if backend is None else backend
        if backend.packs if packed is None else packed:
            longest = max(end - start for start, end in pairwise(bounds))
            x = self.embed(tokens, masked) if embedded is None else embedded
            run = partial(self._run_packed, backend=backend, reading=reading)
            if backend.replays and replays:
                return self._replay(run, x, cu_seqlens, longest, (*self._places(), reading))
            return run(x, cu_seqlens, longest)
        pieces = cut_into_pieces(cu_seqlens, self.tokens_of_a_piece(tokens.device))
        # embedded before cutting: each use of the table costs a gradient of its full size
        if embedded is None:
            x = self.embed(tokens[pieces.source], None if masked is None else masked[pieces.source])
        else:
            x = embedded[pieces.source]
        parts = zip(pieces.split(x), pieces.layouts, strict=True)
        return pieces.join([self.run(part, layout, backend, reading) for part, layout in parts])

    def forward_padded(
        self, tokens: torch.Tensor, lengths: torch.Tensor, backend: Backend | None = None
    ) -> torch.Tensor:
        """Encode cells given side by side, ``(b, l)`` with their lengths ``(b,)``: hidden states ``(b, l, d)``."""
        backend = self._backend(tokens.device) if backend is None else backend
        return self.run(self.embed(tokens), Padded(lengths, tokens.shape[1]), backend)

    def _backend(self, device: torch.device) -> Backend:
        return resolve_backend(self.backend, device, self.config)

    def tokens_of_a_piece(self, device: torch.device) -> int:
        """Padded tokens that run through the layers at a time on a device."""
        return self.piece_tokens or _PIECE_TOKENS.get(device.type, _PIECE_TOKENS_ELSEWHERE)

    def embed(self, tokens: torch.Tensor, masked: torch.Tensor | None = None) -> torch.Tensor:
        """Vectors of tokens, ``(..., d)``, those of hidden ones replaced by that of ``[MASK]``."""
        x = F.embedding(tokens, self.embeddings.weight)
        if torch.is_autocast_enabled(x.device.type):
            # the stream that the layers add to is in half precision too: they lose more than it does
            x = x.to(torch.get_autocast_dtype(x.device.type))
        return x if masked is None else torch.where(masked.unsqueeze(-1), self.mask_embedding.to(x.dtype), x)

    def _places(self) -> tuple[int, ...]:
        """Which projections there are, and where they lie: parameters move together."""
        mixers: list[Any] = [layer.mixer for layer in self.layers]
        places = [(id(m.in_proj), id(m.out_proj), m.in_proj.weight.data_ptr(), m.D.data_ptr()) for m in mixers]
        return (self.norm_f.weight.data_ptr(), *chain.from_iterable(places))

    def _run_packed(
        self, x: torch.Tensor, cu_seqlens: torch.Tensor, longest: int, *, backend: Backend, reading: Reading
    ) -> torch.Tensor:
        return self.run(x, Packed(cu_seqlens, longest), backend, reading)

    def run(self, x: torch.Tensor, layout: Layout, backend: Backend, reading: Reading = "both") -> torch.Tensor:
        """Hidden states of vectors ``(..., d)`` with the leading axes of the layout; ``x`` may be overwritten."""
        for layer in self.layers:
            inputs = (x, layout, backend, self.aggregator, reading)
            if self.recompute and torch.is_grad_enabled():
                # a layer draws no random numbers
                x = checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False)
            else:
                x = layer(*inputs)
        return backend.norm(x, self.norm_f)
