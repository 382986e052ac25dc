"""Sequences cut into chunks, and what passes between them; letters of axes are those of ``_ssd``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

# differs from every sequence, and from the filling of the last chunk
_NO_SEQUENCE = -2


@dataclass(frozen=True, eq=False)
class Chunks:
    """How a scan runs through chunks.

    Parameters
    ----------
    q
        Tokens of a chunk; divides the length.
    reverse
        Whether the scan runs from the last token to the first.
    seq_idx
        Sequence of each token, ``(b, l)``; ``None`` if each row is one sequence.
    """

    q: int
    reverse: bool
    seq_idx: torch.Tensor | None = None

    def cut(self, x: torch.Tensor) -> torch.Tensor:
        """View ``(b, l, h, ...)`` as ``(b, c, h, q, ...)``."""
        return x.unflatten(1, (-1, self.q)).transpose(2, 3)

    def rows(self, x: torch.Tensor) -> torch.Tensor:
        """View ``(b, l, n)`` as ``(b, c, q, n)``."""
        return x.unflatten(1, (-1, self.q))

    def sum_until(self, x: torch.Tensor) -> torch.Tensor:
        """Sum of the tokens of a chunk up to each one, itself included: ``(..., q)``."""
        return x.flip(-1).cumsum(-1).flip(-1) if self.reverse else x.cumsum(-1)

    def sum_from(self, x: torch.Tensor) -> torch.Tensor:
        """Sum of the tokens of a chunk from each one on, itself included: ``(..., q)``."""
        return x.cumsum(-1) if self.reverse else x.flip(-1).cumsum(-1).flip(-1)

    def hide_(self, scores: torch.Tensor) -> torch.Tensor:
        """Set to zero, in place, what token ``i`` must not read of token ``j``: ``(b, c, q, q)``."""
        scores = scores.triu_() if self.reverse else scores.tril_()
        if self.seq_idx is None:
            return scores
        seq = self.seq_idx.unflatten(1, (-1, self.q))
        return scores.masked_fill_(seq.unsqueeze(-1) != seq.unsqueeze(-2), 0)

    def decays(self, s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Decay from the chunk's start to each token, from each token to the end, and through the whole chunk.

        Parameters
        ----------
        s
            Binary logarithm of the decay from the start, ``(b, c, h, q)``.

        Returns
        -------
        ``(b, c, h, q)`` twice and ``(b, c, h)``, zero where another sequence lies between.
        """
        last = 0 if self.reverse else -1
        to_token, to_end, through = s.exp2(), (s[..., last].unsqueeze(-1) - s).exp2(), s[..., last].exp2()
        if self.seq_idx is None:
            return to_token, to_end, through
        seq = self.seq_idx.unflatten(1, (-1, self.q))
        leaving = seq[..., last]
        entering = self._of_chunk_before(leaving)
        to_token = to_token * (seq == entering.unsqueeze(-1)).unsqueeze(2)
        to_end = to_end * (seq == leaving.unsqueeze(-1)).unsqueeze(2)
        return to_token, to_end, through * (entering == leaving).unsqueeze(-1)

    def carry(self, added: torch.Tensor, through: torch.Tensor, *, gradient: bool = False) -> torch.Tensor:
        """State that enters each chunk, or the gradient of the state that leaves it.

        Parameters
        ----------
        added
            What each chunk adds to the state, or the gradient of what it reads of it, ``(b, c, h, n, p)``.
        through
            Decay through each chunk, ``(b, c, h)``.
        gradient
            Run against the order of the scan.

        Returns
        -------
        ``(b, c, h, n, p)``
        """
        n_chunks = added.shape[1]
        step, first = (-1, n_chunks - 1) if self.reverse != gradient else (1, 0)
        out = torch.empty_like(added)
        out[:, first] = 0
        for i in range(first, first + step * (n_chunks - 1), step):
            torch.addcmul(added[:, i], out[:, i], through[:, i, :, None, None], out=out[:, i + step])
        return out

    def _of_chunk_before(self, seq: torch.Tensor) -> torch.Tensor:
        """Value of the chunk that is read before each one, ``(b, c)``."""
        if self.reverse:
            return F.pad(seq[:, 1:], (0, 1), value=_NO_SEQUENCE)
        return F.pad(seq[:, :-1], (1, 0), value=_NO_SEQUENCE)
