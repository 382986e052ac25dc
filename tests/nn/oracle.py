"""The layer written down step by step, one token after the other and one direction after the other."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def recurrence(x, dt, A, B, C, D):
    """``h_t = exp(dt_t A) h_(t-1) + dt_t B_t (x) x_t``, ``y_t = C_t . h_t + D x_t`` for one sequence.

    x ``(l, h, p)``, dt ``(l, h)``, A and D ``(h,)``, B and C ``(l, n)``; y ``(l, h, p)``.
    """
    state = torch.zeros(x.shape[1], x.shape[2], B.shape[1], dtype=x.dtype)
    ys = []
    for t in range(len(x)):
        state = torch.exp(dt[t] * A)[:, None, None] * state
        state = state + dt[t][:, None, None] * x[t][:, :, None] * B[t][None, None, :]
        ys.append(state @ C[t] + D[:, None] * x[t])
    return torch.stack(ys)


def convolution(x, weight, bias):
    """Depthwise causal convolution and SiLU of one sequence ``(l, c)``, zeros left of its start."""
    k = weight.shape[-1]
    rows = []
    for t in range(len(x)):
        total = bias
        for j in range(k):
            if t - (k - 1) + j >= 0:
                total = total + weight[:, 0, j] * x[t - (k - 1) + j]
        rows.append(total)
    out = torch.stack(rows)
    return out * torch.sigmoid(out)


def mixer_forward(mixer, u):
    """Mamba-2 of one sequence ``(l, d)``, steps 1 to 5."""
    inner, n, heads = mixer.d_inner, mixer.d_state, mixer.n_heads
    projected = u @ mixer.in_proj.weight.T
    z, xbc, dt = projected[:, :inner], projected[:, inner : 2 * inner + 2 * n], projected[:, 2 * inner + 2 * n :]
    xbc = convolution(xbc, mixer.conv1d.weight, mixer.conv1d.bias)
    x, B, C = xbc[:, :inner], xbc[:, inner : inner + n], xbc[:, inner + n :]
    dt = torch.log1p(torch.exp(dt + mixer.dt_bias))
    y = recurrence(x.view(len(x), heads, -1), dt, -torch.exp(mixer.A_log), B, C, mixer.D).reshape(len(x), inner)
    v = y * z * torch.sigmoid(z)
    v = v / torch.sqrt((v * v).mean(1, keepdim=True) + 1e-5) * mixer.norm.weight
    return v @ mixer.out_proj.weight.T


def block_forward(block, x, fusion, aggregator=None):
    """Two whole passes of the mixer over one sequence ``(l, d)``, fused at the level of the residual streams."""

    def stream(values):
        normed = values
        if block.norm is not None:
            normed = values / torch.sqrt((values**2).mean(1, keepdim=True) + 1e-5) * block.norm.weight
        return values + mixer_forward(block.mixer, normed)

    ahead, back = stream(x), stream(x.flip(0)).flip(0)
    both = torch.cat([ahead, back], dim=1)
    if fusion == "mean":
        return (ahead + back) / 2
    if fusion == "sum":
        return ahead + back
    mapped = F.linear(both, aggregator.weight, aggregator.bias)
    if fusion == "concat":
        return mapped
    z = torch.sigmoid(mapped)
    return z * ahead + (1 - z) * back


def encoder_forward(encoder, tokens, fusion="mean"):
    """Hidden states ``(l, d)`` of one cell, ``(l,)``."""
    x = encoder.embeddings.weight[tokens.long()]
    for layer in encoder.layers:
        aggregator = encoder.aggregator if layer.aggregator is None else layer.aggregator
        x = block_forward(layer, x, fusion, aggregator)
    return x / torch.sqrt((x**2).mean(1, keepdim=True) + 1e-5) * encoder.norm_f.weight


def difference(a, b):
    """Largest difference relative to the largest entry."""
    a, b = a.detach(), b.detach()
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-30))


def shake(module, seed=0):
    """Move every parameter from its initial value, so that none of them is one or zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter += (0.2 * noise).to(parameter.dtype)
    return module
