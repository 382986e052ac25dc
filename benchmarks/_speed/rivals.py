"""Networks to measure against, all with the face of the encoder: tokens and bounds in, hidden states out."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from scgenemamba.nn import GeneMambaConfig, Mamba2Mixer, Padded
from scgenemamba.nn._backend_mamba_ssm import load_kernels
from scgenemamba.nn._norm import RMSNorm

#: One direction of a layer: a mixer and hidden states ``(b, l, d)`` to ``(b, l, d)``.
Mix = Callable[..., torch.Tensor]

_EPS = 1e-5
_HEAD = 64
# of mamba_ssm's Mamba2
_CHUNK_SIZE = 256


class PaddedEncoder(nn.Module):
    """Embedding, layers over cells of equal length side by side, final norm.

    Parameters
    ----------
    n_tokens, width
        Size of the embedding table.
    layers
        Maps from ``(b, l, d)`` to ``(b, l, d)``.
    norm
        After the last layer.
    max_length
        Positions to embed; 0 for a network that knows the order without.
    """

    def __init__(self, n_tokens: int, width: int, layers: list[nn.Module], norm: nn.Module, max_length: int = 0):
        super().__init__()
        self.embeddings = nn.Embedding(n_tokens, width)
        self.mask_embedding = nn.Parameter(torch.zeros(width))
        self.positions = nn.Parameter(torch.zeros(max_length, width)) if max_length else None
        self.layers = nn.ModuleList(layers)
        self.norm_f = norm

    def forward(
        self, tokens: torch.Tensor, cu_seqlens: torch.Tensor, masked: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Hidden states ``(t, d)`` of cells of equal length."""
        x = self.embeddings(tokens)
        if masked is not None:
            x = torch.where(masked.unsqueeze(-1), self.mask_embedding, x)
        x = x.unflatten(0, (len(cu_seqlens) - 1, -1))
        if self.positions is not None:
            x = x + self.positions[: x.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return self.norm_f(x).flatten(0, 1)


class TwoPassLayer(nn.Module):
    """The published recipe: a whole mixer on the sequence, and once more on the reversed sequence."""

    def __init__(self, norm: nn.Module, mixer: nn.Module, mix: Mix) -> None:
        super().__init__()
        self.norm = norm
        self.mixer = mixer
        self.mix = mix

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(b, l, d)`` to ``(b, l, d)``."""
        u = self.norm(x)
        return x + 0.5 * (self.mix(self.mixer, u) + self.mix(self.mixer, u.flip(1)).flip(1))


def two_pass(
    config: GeneMambaConfig, mix: Mix, make_mixer: Callable[[GeneMambaConfig], nn.Module] = Mamba2Mixer
) -> PaddedEncoder:
    """Encoder of :class:`TwoPassLayer`; the norm is the faster one of the device that ``mix`` is for."""
    norm = RMSNorm if mix in (mix_in_torch, mix_of_transformers) else partial(nn.RMSNorm, eps=_EPS)
    width = config.d_model
    layers: list[nn.Module] = [TwoPassLayer(norm(width), make_mixer(config), mix) for _ in range(config.n_layers)]
    return PaddedEncoder(config.n_tokens, width, layers, norm(width))


def mix_in_torch(mixer: Mamba2Mixer, u: torch.Tensor) -> torch.Tensor:
    """Our own code in plain PyTorch, in one direction."""
    batch, length, _ = u.shape
    return mixer(u, Padded(torch.full((batch,), length, device=u.device), length, full=True))


def mix_of_transformers(mixer: nn.Module, u: torch.Tensor) -> torch.Tensor:
    """The mixer of transformers, in one direction."""
    return mixer(u)


def mixer_of_transformers(config: GeneMambaConfig) -> nn.Module:
    """Mixer of transformers; without kernels it runs in plain PyTorch, fastest with the chunk of our configuration."""
    from transformers import Mamba2Config
    from transformers.models.mamba2 import modeling_mamba2

    theirs = Mamba2Config(
        hidden_size=config.d_model,
        num_heads=config.n_heads,
        head_dim=config.headdim,
        state_size=config.d_state,
        n_groups=1,
        expand=config.expand,
        conv_kernel=config.d_conv,
        chunk_size=config.chunk_size,
        num_hidden_layers=config.n_layers,
    )
    return modeling_mamba2.Mamba2Mixer(theirs, layer_idx=0)


def mix_by_steps(mixer: Mamba2Mixer, u: torch.Tensor) -> torch.Tensor:
    """mamba_ssm's Mamba2 as it runs with ``use_mem_eff_path=False``."""
    kernels = load_kernels()
    z, xbc, dt = mixer.in_proj(u).split(mixer.widths, -1)
    weight, bias = mixer.conv1d.weight[:, 0], mixer.conv1d.bias
    if kernels.conv is not None:
        xbc = kernels.conv(xbc.mT, weight, bias, activation="silu").mT
    else:
        xbc = F.silu(mixer.conv1d(xbc.mT)[..., : u.shape[1]]).mT
    x, b, c = xbc.split([mixer.d_inner, mixer.d_state, mixer.d_state], -1)
    y = kernels.scan(
        x.unflatten(-1, (mixer.n_heads, -1)),
        dt,
        -mixer.A_log.float().exp(),
        b.unsqueeze(2),
        c.unsqueeze(2),
        chunk_size=_CHUNK_SIZE,
        D=mixer.D,
        dt_bias=mixer.dt_bias,
        dt_softplus=True,
    )
    y = kernels.gated_norm(y.flatten(-2), mixer.norm.weight, None, z=z, eps=_EPS, norm_before_gate=False)
    return mixer.out_proj(y)


def mix_at_once(mixer: Mamba2Mixer, u: torch.Tensor) -> torch.Tensor:
    """mamba_ssm's Mamba2 as it runs by default, in one call; needs causal_conv1d."""
    load_kernels()
    combined = importlib.import_module("mamba_ssm.ops.triton.ssd_combined")
    return combined.mamba_split_conv1d_scan_combined(
        mixer.in_proj(u),
        mixer.conv1d.weight[:, 0],
        mixer.conv1d.bias,
        mixer.dt_bias,
        -mixer.A_log.float().exp(),
        D=mixer.D,
        chunk_size=_CHUNK_SIZE,
        activation="silu",
        rmsnorm_weight=mixer.norm.weight,
        rmsnorm_eps=_EPS,
        outproj_weight=mixer.out_proj.weight,
        headdim=mixer.d_inner // mixer.n_heads,
        norm_before_gate=False,
    )


class Attention(nn.Module):
    """Self-attention over all tokens, with PyTorch's fused kernel."""

    def __init__(self, width: int, *, bias: bool) -> None:
        super().__init__()
        self.n_heads = width // _HEAD
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(b, l, d)`` to ``(b, l, d)``."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))


class TransformerLayer(nn.Module):
    """Pre-norm Transformer layer without biases."""

    def __init__(self, width: int, d_ff: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(width, eps=_EPS) for _ in range(2))
        self.attention = Attention(width, bias=False)
        self.widen, self.narrow = nn.Linear(width, d_ff, bias=False), nn.Linear(d_ff, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(b, l, d)`` to ``(b, l, d)``."""
        x = x + self.attention(self.norms[0](x))
        return x + self.narrow(F.gelu(self.widen(self.norms[1](x)), approximate="tanh"))


class BertLayer(nn.Module):
    """Post-norm layer of BERT, as Geneformer uses it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attention = Attention(width, bias=True)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(b, l, d)`` to ``(b, l, d)``."""
        x = self.norms[0](x + self.attention(x))
        return self.norms[1](x + self.narrow(F.gelu(self.widen(x))))


def matched_transformer(config: GeneMambaConfig, max_length: int) -> PaddedEncoder:
    """Transformer with the width, the layers and the parameters of a configuration."""
    width = config.d_model
    of_mixer = sum(p.numel() for p in Mamba2Mixer(config).parameters())
    # attention has 4 d^2, the rest goes into the feed-forward layer, in multiples of a head
    d_ff = max(_HEAD, round((of_mixer - 4 * width**2) / (2 * width) / _HEAD) * _HEAD)
    layers: list[nn.Module] = [TransformerLayer(width, d_ff) for _ in range(config.n_layers)]
    return PaddedEncoder(config.n_tokens, width, layers, nn.RMSNorm(width, eps=_EPS), max_length)


def bert_of_geneformer(n_tokens: int, max_length: int) -> PaddedEncoder:
    """BERT of the shape of Geneformer-V2: 12 layers x 768."""
    layers: list[nn.Module] = [BertLayer(768) for _ in range(12)]
    return PaddedEncoder(n_tokens, 768, layers, nn.Identity(), max_length)
