"""Reading parts of sequences anew, with all that lies outside of them as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from ._backend import resolve_backend
from ._backend_torch import TorchBackend, scan_inputs
from ._conv import causal_conv_silu
from ._layout import Padded
from ._transfer import send

if TYPE_CHECKING:
    from ._backend import Backend
    from ._config import GeneMambaConfig
    from ._encoder import BiMambaEncoder
    from ._layout import Layout
    from ._mixer import Mamba2Mixer
    from ._norm import RMSNorm

# tokens between kept states, and windows that one of them is multiplied with at a time
_CHUNK = 16
_GROUP = 16


class _Kept(NamedTuple):
    """What entered a layer's convolution, ``(b, l, c)``, and its steps, ``(b, l, h)``; zeros at padding."""

    xbc: torch.Tensor
    dt: torch.Tensor


class _Recording:
    """Another back-end, which keeps what enters the scan of each layer."""

    name = "recording"
    packs = False
    replays = False

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.kept: dict[Mamba2Mixer, _Kept] = {}

    def __call__(
        self, projected: torch.Tensor, mixer: Mamba2Mixer, layout: Layout, directions: tuple[bool, ...]
    ) -> tuple[torch.Tensor, ...]:
        self._keep(projected, mixer, layout)
        return self._backend(projected, mixer, layout, directions)

    def total(
        self,
        projected: torch.Tensor,
        mixer: Mamba2Mixer,
        layout: Layout,
        directions: tuple[bool, ...],
        scale: float = 1.0,
    ) -> torch.Tensor:
        self._keep(projected, mixer, layout)
        return self._backend.total(projected, mixer, layout, directions, scale)

    def norm(self, x: torch.Tensor, norm: RMSNorm) -> torch.Tensor:
        return self._backend.norm(x, norm)

    @staticmethod
    def obstacle(device: torch.device | None = None, config: GeneMambaConfig | None = None) -> str | None:
        return None

    def _keep(self, projected: torch.Tensor, mixer: Mamba2Mixer, layout: Layout) -> None:
        _, xbc, dt = scan_inputs(projected, mixer, layout)
        self.kept[mixer] = _Kept(xbc, dt)


class _Windows(TorchBackend):
    """Reads windows between the states that the recorded sequences have at their borders."""

    name = "windows"

    def __init__(
        self,
        kept: dict[Mamba2Mixer, _Kept],
        inside: torch.Tensor,
        sequence: torch.Tensor,
        start: torch.Tensor,
        end: torch.Tensor,
    ) -> None:
        self.kept, self.inside = kept, inside.unsqueeze(-1)
        self.sequence, self.start, self.end = sequence, start, end
        self._on_device = [send(part, inside.device).unsqueeze(1) for part in (sequence, start, end)]
        self._starts: dict[bool, _Starts] = {}

    def _scan(
        self, xbc: torch.Tensor, dt: torch.Tensor, mixer: Mamba2Mixer, layout: Layout, reverse: bool
    ) -> torch.Tensor:
        kept, bias, taps = self.kept[mixer], mixer.conv1d.bias, mixer.conv1d.weight
        assert bias is not None
        xbc, dt = xbc * self.inside, dt * self.inside
        sizes = [mixer.d_inner, mixer.d_state, mixer.d_state]
        rate = -mixer.A_log.to(dt.dtype).exp()
        before = causal_conv_silu(kept.xbc, taps, bias, reverse=reverse)
        steps, length = kept.dt, before.shape[1]
        # the tokens next to the window that the convolution reaches
        reach = taps.shape[-1] - 1
        near = torch.arange(reach, device=xbc.device)
        sequence, start, end = self._on_device
        near = end + near if reverse else start - reach + near
        beside = kept.xbc[sequence, near.clamp(0, length - 1)]
        beside = beside * ((near >= 0) & (near < length)).unsqueeze(-1)
        mixed = causal_conv_silu(torch.cat([xbc, beside] if reverse else [beside, xbc], 1), taps, bias, reverse=reverse)
        mixed = mixed[:, :-reach] if reverse else mixed[:, reach:]
        if reverse:
            before, steps, mixed, dt = before.flip(1), steps.flip(1), mixed.flip(1), dt.flip(1)
        x, b, _ = before.split(sizes, -1)
        read = _Read(x, b, steps, rate)
        x, b, c = mixed.split(sizes, -1)
        if reverse not in self._starts:
            begin = length - self.end if reverse else self.start
            self._starts[reverse] = _Starts(self.sequence * read.width + begin, xbc.device)
        y = read.go_on(x, b, c, dt, self._starts[reverse])
        y = y + mixer.D.repeat_interleave(mixer.d_inner // mixer.n_heads) * x
        return y.flip(1) if reverse else y


class _Starts:
    """Where windows begin in sequences that lie end to end: in groups that share the state before them, so that no layer needs a loop.

    Parameters
    ----------
    start
        Tokens before each window, int ``(m,)``, on the CPU.
    device
        Where the sequences are.

    Attributes
    ----------
    before
        Tokens behind the last kept state before each window, ``(m, 15)``, and which of them stand before the window, ``(m, 15, 1)``.
    slot
        Place of each window among those of all groups, int ``(m,)``.
    group_chunk
        Chunk of each group.
    """

    def __init__(self, start: torch.Tensor, device: torch.device) -> None:
        chunk = torch.div(start, _CHUNK, rounding_mode="floor")
        chunks, order = torch.sort(chunk, stable=True)
        place = torch.arange(len(start)) - torch.searchsorted(chunks, chunks)
        opens = place % _GROUP == 0
        slot = torch.empty_like(order)
        slot[order] = (opens.cumsum(0) - 1) * _GROUP + place % _GROUP
        self.slot, self.group_chunk = send(slot, device), send(chunks[opens], device)
        places = chunk.unsqueeze(1) * _CHUNK + torch.arange(_CHUNK - 1)
        self.before = send(places, device), send((places < start.unsqueeze(1)).unsqueeze(-1), device)


class _Read:
    """Sequences that were read, with the state at every sixteenth token.

    Parameters
    ----------
    x, b, dt
        What was read, ``(b, l, d_inner)``, ``(b, l, n)`` and ``(b, l, h)``.
    rate
        Negative decay rates, ``(h,)``.

    Attributes
    ----------
    width
        Tokens of a sequence with its filling, a multiple of sixteen.
    """

    def __init__(self, x: torch.Tensor, b: torch.Tensor, dt: torch.Tensor, rate: torch.Tensor) -> None:
        # one chunk more, for windows behind the last token
        fill = -x.shape[1] % _CHUNK + _CHUNK
        x, b, dt = (F.pad(t, (0, 0, 0, fill)) for t in (x, b, dt))
        self.width = x.shape[1]
        self.x, self.b, self.dt = x.flatten(0, 1), b.flatten(0, 1), dt.flatten(0, 1)
        self.rate = rate
        x, b, dt = (t.unflatten(1, (-1, _CHUNK)) for t in (x, b, dt))
        decay = (dt * rate).cumsum(2)
        weight = (decay[:, :, -1:] - decay).exp() * dt
        written = (x.unflatten(-1, (len(rate), -1)) * weight.unsqueeze(-1)).flatten(3).mT @ b
        # what is left of each chunk's share before each later one; differences of sums, which single precision would lose
        total = decay[:, :, -1].double()
        until = total.cumsum(1)
        earlier = _earlier(total.shape[1], x.device, -1)
        left = ((until - total).unsqueeze(2) - until.unsqueeze(1)).masked_fill(~earlier, -torch.inf).exp().to(x.dtype)
        written_by_head = written.unflatten(2, (len(rate), -1)).transpose(1, 2)
        states = left.permute(0, 3, 1, 2) @ written_by_head.flatten(3)
        self.states = states.view(written_by_head.shape).transpose(1, 2).reshape(-1, *written.shape[2:])

    def go_on(
        self, x: torch.Tensor, b: torch.Tensor, c: torch.Tensor, dt: torch.Tensor, starts: _Starts
    ) -> torch.Tensor:
        """Read on from where windows start: ``x (m, w, d_inner)``, ``b``, ``c (m, w, n)``, ``dt (m, w, h)``, to ``x``'s shape."""
        places, there = starts.before
        dt = torch.cat([self.dt[places] * there, dt], 1)
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
    """Sequences that were read once, of which windows are read anew after changes.

    What lies outside of a window counts as unchanged in all layers: states enter a window from both sides as the whole sequence has them.
    A token's influence is largest on its neighbours, so that this is exact but for what it does from afar. The cost of a window is that of its tokens.

    Parameters
    ----------
    encoder
        Encoder that reads no padding.
    tokens
        Tokens of the sequences side by side, int ``(b, l)``, on the CPU or the encoder's device.
    lengths
        Tokens of each sequence, int ``(b,)``, on the CPU.

    Attributes
    ----------
    hidden
        Last hidden states of the sequences, ``(b, l, d)``; arbitrary at padding.
    """

    def __init__(self, encoder: BiMambaEncoder, tokens: torch.Tensor, lengths: torch.Tensor) -> None:
        self._encoder = encoder
        device = encoder.embeddings.weight.device
        recording = _Recording(resolve_backend(encoder.backend, device, encoder.config))
        layout = Padded(send(lengths, device), tokens.shape[1], full=bool((lengths == tokens.shape[1]).all()))
        self.hidden = encoder.run(encoder.embed(send(tokens, device)), layout, recording)
        self._kept = recording.kept

    def read(
        self, tokens: torch.Tensor, inside: torch.Tensor, sequence: torch.Tensor, start: torch.Tensor, end: torch.Tensor
    ) -> torch.Tensor:
        """Last hidden states of windows.

        Parameters
        ----------
        tokens
            New tokens of each window, int ``(m, w)``.
        inside
            Which of them are there, bool ``(m, w)``; those that are not stand before the sequence's first token or behind its last.
        sequence, start, end
            The window stands in place of the tokens ``[start, end)`` of that sequence, int ``(m,)`` each, on the CPU.

        Returns
        -------
        ``(m, w, d)``; arbitrary where no token is.
        """
        tokens, inside = (send(part, self.hidden.device) for part in (tokens, inside))
        layout = Padded(inside.sum(1), tokens.shape[1], full=True)
        backend = _Windows(self._kept, inside, sequence, start, end)
        return self._encoder.run(self._encoder.embed(tokens), layout, backend)
