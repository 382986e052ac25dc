"""Reading parts of a sequence anew, with all that lies outside of them as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from ._backend_torch import TorchBackend
from ._conv import causal_conv_silu
from ._layout import Padded

if TYPE_CHECKING:
    from ._encoder import BiMambaEncoder
    from ._layout import Layout
    from ._mixer import Mamba2Mixer

# tokens between kept states, and windows that one of them is multiplied with at a time
_CHUNK = 16
_GROUP = 16


class _Kept(NamedTuple):
    """What entered a layer's convolution, ``(1, l, c)``, and its steps, ``(1, l, h)``."""

    xbc: torch.Tensor
    dt: torch.Tensor


class _Recording(TorchBackend):
    """Keeps what entered each layer."""

    name = "recording"

    def __init__(self) -> None:
        self.kept: dict[Mamba2Mixer, _Kept] = {}

    def _scan(
        self, xbc: torch.Tensor, dt: torch.Tensor, mixer: Mamba2Mixer, layout: Layout, reverse: bool
    ) -> torch.Tensor:
        self.kept[mixer] = _Kept(xbc, dt)
        return super()._scan(xbc, dt, mixer, layout, reverse)


class _Windows(TorchBackend):
    """Reads windows between the states that the recorded sequence has at their borders."""

    name = "windows"

    def __init__(self, kept: dict[Mamba2Mixer, _Kept], inside: torch.Tensor, start: torch.Tensor, end: torch.Tensor):
        self.kept, self.inside, self.start, self.end = kept, inside.unsqueeze(-1), start, end
        self._starts: dict[bool, _Starts] = {}

    def _scan(
        self, xbc: torch.Tensor, dt: torch.Tensor, mixer: Mamba2Mixer, layout: Layout, reverse: bool
    ) -> torch.Tensor:
        kept, bias, taps = self.kept[mixer], mixer.conv1d.bias, mixer.conv1d.weight
        assert bias is not None
        xbc, dt = xbc * self.inside, dt * self.inside
        sizes = [mixer.d_inner, mixer.d_state, mixer.d_state]
        rate = -mixer.A_log.to(dt.dtype).exp()
        before = causal_conv_silu(kept.xbc, taps, bias, reverse=reverse)[0]
        steps, length = kept.dt[0], len(before)
        # the tokens next to the window that the convolution reaches
        reach = taps.shape[-1] - 1
        near = torch.arange(reach, device=xbc.device)
        near = self.end.unsqueeze(1) + near if reverse else self.start.unsqueeze(1) - reach + near
        beside = kept.xbc[0][near.clamp(0, length - 1)] * ((near >= 0) & (near < length)).unsqueeze(-1)
        mixed = causal_conv_silu(torch.cat([xbc, beside] if reverse else [beside, xbc], 1), taps, bias, reverse=reverse)
        mixed = mixed[:, :-reach] if reverse else mixed[:, reach:]
        if reverse:
            before, steps, mixed, dt = before.flip(0), steps.flip(0), mixed.flip(1), dt.flip(1)
        x, b, _ = before.split(sizes, -1)
        read = _Read(x, b, steps, rate)
        x, b, c = mixed.split(sizes, -1)
        if reverse not in self._starts:
            self._starts[reverse] = _Starts(length - self.end if reverse else self.start)
        y = read.go_on(x, b, c, dt, self._starts[reverse])
        y = y + mixer.D.repeat_interleave(mixer.d_inner // mixer.n_heads) * x
        return y.flip(1) if reverse else y


class _Starts:
    """Where windows begin in a sequence: in groups that share the state before them, so that no layer needs a loop.

    Parameters
    ----------
    start
        Tokens before each window, int ``(m,)``.

    Attributes
    ----------
    start, chunk
        As given, and the chunk that it lies in.
    slot
        Place of each window among those of all groups, int ``(m,)``.
    group_chunk
        Chunk of each group.
    """

    def __init__(self, start: torch.Tensor) -> None:
        self.start, self.chunk = start, torch.div(start, _CHUNK, rounding_mode="floor")
        chunks, order = torch.sort(self.chunk, stable=True)
        place = torch.arange(len(start), device=start.device) - torch.searchsorted(chunks, chunks)
        opens = place % _GROUP == 0
        self.slot = torch.empty_like(order)
        self.slot[order] = (opens.cumsum(0) - 1) * _GROUP + place % _GROUP
        self.group_chunk = chunks[opens]


class _Read:
    """A sequence that was read, with its state at every sixteenth token.

    Parameters
    ----------
    x, b, dt
        What was read, ``(l, d_inner)``, ``(l, n)`` and ``(l, h)``.
    rate
        Negative decay rates, ``(h,)``.
    """

    def __init__(self, x: torch.Tensor, b: torch.Tensor, dt: torch.Tensor, rate: torch.Tensor) -> None:
        fill = -len(x) % _CHUNK
        # one chunk more, for windows behind the last token
        self.x, self.b, self.dt = (F.pad(t, (0, 0, 0, fill + _CHUNK)) for t in (x, b, dt))
        self.rate = rate
        x, b, dt = (t.unflatten(0, (-1, _CHUNK)) for t in (self.x, self.b, self.dt))
        decay = (dt * rate).cumsum(1)
        weight = (decay[:, -1:] - decay).exp() * dt
        written = (x.unflatten(-1, (len(rate), -1)) * weight.unsqueeze(-1)).flatten(2).mT @ b
        # what is left of each chunk's share before each later one; differences of sums, which single precision would lose
        total = decay[:, -1].double()
        until = total.cumsum(0)
        left = ((until - total).unsqueeze(1) - until).masked_fill(~_earlier(len(total), x.device, -1), -torch.inf)
        shares = left.exp().to(x.dtype).permute(2, 0, 1) @ written.unflatten(1, (len(rate), -1)).transpose(0, 1).flatten(2)
        self.states = shares.transpose(0, 1).reshape(written.shape)

    def go_on(
        self, x: torch.Tensor, b: torch.Tensor, c: torch.Tensor, dt: torch.Tensor, starts: _Starts
    ) -> torch.Tensor:
        """Read on from where windows start: ``x (m, w, d_inner)``, ``b``, ``c (m, w, n)``, ``dt (m, w, h)``, to ``x``'s shape."""
        start = starts.start
        places = starts.chunk.unsqueeze(1) * _CHUNK + torch.arange(_CHUNK - 1, device=start.device)
        dt = torch.cat([self.dt[places] * (places < start.unsqueeze(1)).unsqueeze(-1), dt], 1)
        x, b = torch.cat([self.x[places], x], 1), torch.cat([self.b[places], b], 1)
        width, n_heads = c.shape[1], len(self.rate)
        decay = (dt * self.rate).cumsum(1)
        unread = ~_earlier(x.shape[1], x.device)[-width:]
        within = (decay[:, -width:].unsqueeze(2) - decay.unsqueeze(1)).masked_fill(unread, -torch.inf).exp()
        mix = (c @ b.mT).unsqueeze(-1) * within * dt.unsqueeze(1)
        y = (mix.permute(0, 3, 1, 2) @ x.unflatten(-1, (n_heads, -1)).transpose(1, 2)).transpose(1, 2)
        grouped = c.new_zeros(len(starts.group_chunk) * _GROUP, *c.shape[1:])
        grouped[starts.slot] = c
        entered = grouped.view(len(starts.group_chunk), -1, c.shape[-1]) @ self.states[starts.group_chunk].mT
        entered = entered.view(*grouped.shape[:2], -1)[starts.slot]
        return (y + decay[:, -width:].exp().unsqueeze(-1) * entered.unflatten(-1, (n_heads, -1))).flatten(2)


def _earlier(n: int, device: torch.device, diagonal: int = 0) -> torch.Tensor:
    """Whether token ``i`` reads token ``j``, ``(n, n, 1)``; with ``diagonal=-1`` not itself."""
    return torch.ones(n, n, dtype=torch.bool, device=device).tril(diagonal).unsqueeze(-1)


class WindowReader:
    """A sequence that was read once, of which windows are read anew after changes.

    What lies outside of a window counts as unchanged in all layers: states enter a window from both sides as the whole sequence has them.
    A token's influence is largest on its neighbours, so that this is exact but for what it does from afar. The cost of a window is that of its tokens.

    Parameters
    ----------
    encoder
        Encoder of sequences without padding.
    tokens
        Tokens of the sequence, int ``(l,)``.

    Attributes
    ----------
    hidden
        Last hidden states of the sequence, ``(l, d)``.
    """

    def __init__(self, encoder: BiMambaEncoder, tokens: torch.Tensor) -> None:
        self._encoder = encoder
        recording = _Recording()
        lengths = torch.full((1,), len(tokens), device=tokens.device)
        self.hidden = encoder.forward_padded(tokens[None], lengths, recording)[0]
        self._kept = recording.kept

    def read(self, tokens: torch.Tensor, inside: torch.Tensor, start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        """Last hidden states of windows.

        Parameters
        ----------
        tokens
            New tokens of each window, int ``(m, w)``.
        inside
            Which of them are there, bool ``(m, w)``; those that are not stand before the sequence's first token or behind its last.
        start, end
            The window stands in place of the tokens ``[start, end)`` of the sequence, int ``(m,)`` each.

        Returns
        -------
        ``(m, w, d)``; arbitrary where no token is.
        """
        layout = Padded(inside.sum(1), tokens.shape[1], full=True)
        backend = _Windows(self._kept, inside, start, end)
        return self._encoder.run(self._encoder.embed(tokens), layout, backend)
