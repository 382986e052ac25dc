"""Effects of all genes of a cell at the cost of a few passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from scgenemamba.nn import Encoded, WindowReader, send

from ._edits import Kind, edited

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ._readout import Readout, States


# tokens of windows that a GPU reads at a time, of as many cells as have them; other devices read a cell at a time
_TOKENS_AT_A_TIME = 65_536


class _Asked(NamedTuple):
    """Windows of a cell to be read, see :meth:`~scgenemamba.nn.WindowReader.read`."""

    tokens: torch.Tensor
    inside: torch.Tensor
    start: torch.Tensor
    end: torch.Tensor


class _Windows(NamedTuple):
    """New hidden states ``(m, w, d)`` in place of the tokens ``[start, end)``, and which of them are there, ``(m, w)``."""

    states: torch.Tensor
    inside: torch.Tensor
    start: torch.Tensor
    end: torch.Tensor


class Screener:
    """Predicts what a change of each single gene of a cell does, by reading anew only what stands around it.

    Parameters
    ----------
    module
        The model's module; its network pools no ``[CLS]`` and reads no padding.
    readout
        What is read.
    kind
        What happens to the genes.
    window
        Genes on each side that are read anew, see :class:`~scgenemamba.nn.WindowReader`.

    Attributes
    ----------
    n_passes
        Forward passes over a whole cell that the predictions cost, by tokens read.
    """

    def __init__(self, module: Any, readout: Readout, kind: Kind, window: int) -> None:
        self.module, self.readout, self.kind, self.window = module, readout, kind, window
        self._network, self._width = module.network, module.config.max_tokens
        self.n_passes = 0.0

    def beyond(self, ranking: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """Genes that are not predicted, bool ``(l,)``: moved ones from near that end, and all of short cells."""
        n, near = min(len(ranking), self._width), 2 * self.window
        place = np.arange(len(ranking))
        if n <= 2 * near:
            return np.ones(len(ranking), dtype=bool)
        if self._deletes(ranking):
            return np.zeros(len(ranking), dtype=bool)
        return place < near if self.kind == "overexpress" else place >= n - near

    @property
    def tokens_at_a_time(self) -> int:
        """Genes of cells that are worth reading together."""
        return _TOKENS_AT_A_TIME // (2 * self.window) if self.module.device.type == "cuda" else 1

    @torch.inference_mode()
    def __call__(self, rankings: Sequence[npt.NDArray[np.int32]], befores: Sequence[States]) -> list[States]:
        """Predicted readings of cells after a change of each of their genes, in the order of the rankings.

        Parameters
        ----------
        rankings
            All tokens of each cell, from most to least expressed.
        befores
            Readings of the cells as they are.
        """
        # windows are described on the CPU, so that a GPU need not be waited for
        cells = [torch.from_numpy(ranking) for ranking in rankings]
        deleted = [self._deletes(ranking) for ranking in rankings]
        # where one of the genes that are read is deleted, the next one moves up
        reads = [genes[: self._width + deletes] for genes, deletes in zip(cells, deleted, strict=True)]
        lengths = torch.tensor([len(read) for read in reads])
        reader = WindowReader(self._network.encoder, pad_sequence(reads, batch_first=True), lengths)
        self.n_passes += len(cells)
        hidden = [states[: len(read)] for states, read in zip(reader.hidden, reads, strict=True)]
        moved = [number for number, deletes in enumerate(deleted) if not deletes]
        places = [self._places(*each) for each in zip(cells, reads, deleted, strict=True)]
        around = self._anew(reader, {k: self._around(reads[k], places[k]) for k in range(len(cells))}, hidden)
        at_end = self._anew(reader, {k: self._at_end(reads[k], cells[k]) for k in moved}, hidden)
        found = []
        for k, (ranking, before) in enumerate(zip(rankings, befores, strict=True)):
            moves = k in at_end
            pooled = (
                self._pooled_after_move(hidden[k], around[k], at_end[k])
                if moves
                else self._pooled(hidden[k], around[k])
            )
            after = self._embedding(pooled)
            unread = send(before.embedding, after.device).expand(len(ranking) - len(after), -1)
            found.append(self._read(ranking, torch.cat([after, unread])))
        return found

    def _deletes(self, ranking: npt.NDArray[np.int32]) -> bool:
        """Whether a changed gene is read no more: moved behind all others, it is not where those fill the model's window."""
        return self.kind == "delete" or (self.kind == "inhibit" and len(ranking) > self._width)

    def _places(self, genes: torch.Tensor, read: torch.Tensor, deletes: bool) -> torch.Tensor:
        """Where the windows of each gene lie."""
        if deletes:
            return torch.arange(min(len(genes), self._width))
        # a gene that was not read takes the place of the last one that was
        places = torch.arange(len(genes)).clamp(max=len(read) - 1)
        # those from near that end are not predicted: any place will do
        near = 2 * self.window
        return places.clamp(min=near) if self.kind == "overexpress" else places.clamp(max=len(read) - near - 1)

    def _around(self, read: torch.Tensor, places: torch.Tensor) -> _Asked:
        """Neighbours of each place, without the gene that stands there."""
        steps = torch.arange(-self.window, self.window + 1)
        around = places.unsqueeze(1) + steps[steps != 0]
        inside = (around >= 0) & (around < len(read))
        start, end = (places - self.window).clamp(min=0), (places + self.window + 1).clamp(max=len(read))
        return _Asked(read[around.clamp(0, len(read) - 1)], inside, start, end)

    def _at_end(self, read: torch.Tensor, genes: torch.Tensor) -> _Asked:
        """Each gene before or behind those at that end."""
        front, w, n = self.kind == "overexpress", self.window, len(read)
        near = (read[:w] if front else read[n - w :]).expand(len(genes), -1)
        tokens = torch.cat([genes.unsqueeze(1), near] if front else [near, genes.unsqueeze(1)], 1)
        bounds = (0, w) if front else (n - w, n)
        start, end = (torch.full((len(genes),), bound) for bound in bounds)
        return _Asked(tokens, torch.ones_like(tokens, dtype=torch.bool), start, end)

    def _anew(
        self, reader: WindowReader, asked: dict[int, _Asked], hidden: Sequence[torch.Tensor]
    ) -> dict[int, _Windows]:
        """Read windows of several cells at once."""
        if not asked:
            return {}
        sizes = [len(some.tokens) for some in asked.values()]
        sequence = torch.tensor([*asked]).repeat_interleave(torch.tensor(sizes))
        tokens, inside, start, end = (torch.cat(parts) for parts in zip(*asked.values(), strict=True))
        self.n_passes += sum(float(some.inside.sum()) / len(hidden[k]) for k, some in asked.items())
        states = reader.read(tokens, inside, sequence, start, end)
        inside, start, end = (send(part, states.device) for part in (inside, start, end))
        parts = zip(*(part.split(sizes) for part in (states, inside, start, end)), strict=True)
        return {k: _Windows(*part) for k, part in zip(asked, parts, strict=True)}

    def _pooled_after_move(self, hidden: torch.Tensor, around: _Windows, at_end: _Windows) -> torch.Tensor:
        """Pooled states of a cell with each gene moved to one end."""
        w = self.window
        if self.kind != "overexpress":
            return self._pooled(hidden[: len(hidden) - w], around, at_end)
        rest = around._replace(start=around.start - w, end=around.end - w)
        return self._pooled(hidden[w:], rest, at_end)

    def _pooled(self, hidden: torch.Tensor, around: _Windows, at_end: _Windows | None = None) -> torch.Tensor:
        """Pool the states outside of the windows, ``hidden`` but for ``[start, end)``, and those of the windows."""
        windows = [around] if at_end is None else [around, at_end]
        find = {"mean": _mean, "max": _max}
        return torch.cat([find[name](hidden, around, windows) for name in self._network.pooling.names], -1)

    def _embedding(self, pooled: torch.Tensor) -> torch.Tensor:
        return self._network.latent(pooled)[0] if self.readout.representation == "latent" else pooled

    def _read(self, ranking: npt.NDArray[np.int32], after: torch.Tensor) -> States:
        if self.readout.column is None:
            return self.readout.given(None, after)
        sequences = edited(ranking, [*ranking[:, None]], self.kind, self._width)
        latent, none = self.readout.representation == "latent", after.new_empty(0)
        encoded = Encoded(
            hidden=none,
            tokens=send(torch.from_numpy(sequences.tokens), after.device),
            cu_seqlens=send(torch.from_numpy(sequences.cu_seqlens), after.device),
            masked=None,
            pooled=none if latent else after,
            mean=after if latent else self._network.latent(after)[0],
            variance=none,
        )
        return self.readout.given(encoded, after)


def _mean(hidden: torch.Tensor, around: _Windows, windows: list[_Windows]) -> torch.Tensor:
    # sums of any two places differ by what lies between, which single precision would lose
    sums = torch.cat([hidden.new_zeros(1, hidden.shape[1]), hidden]).double().cumsum(0)
    total = sums[-1] - (sums[around.end] - sums[around.start])
    n = len(hidden) - (around.end - around.start)
    for window in windows:
        total = total + (window.states * window.inside.unsqueeze(-1)).sum(1)
        n = n + window.inside.sum(1)
    return (total / n.unsqueeze(1)).float()


def _max(hidden: torch.Tensor, around: _Windows, windows: list[_Windows]) -> torch.Tensor:
    lowest = hidden.new_full((1, hidden.shape[1]), -torch.inf)
    ahead = torch.cat([lowest, hidden.cummax(0).values])[around.start]
    back = torch.cat([hidden.flip(0).cummax(0).values.flip(0), lowest])[around.end]
    inside = [window.states.masked_fill(~window.inside.unsqueeze(-1), -torch.inf).amax(1) for window in windows]
    return torch.stack([ahead, back, *inside]).amax(0)
