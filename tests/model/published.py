"""Checkpoints in the published layout, and what they compute, written down without the package."""

from __future__ import annotations

import json
import re

import numpy as np
import torch
from safetensors.torch import save_file

SYMBOLS = {
    "ENSG00000000003": "TSPAN6",
    "ENSG00000000005": "TNMD",
    "ENSG00000000419": "DPM1",
    "ENSG00000000457": "SCYL3",
    "ENSG00000000938": "FGR",
    "ENSG00000000971": "CFH",
    "ENSG00000010610": "CD4",
    "ENSG00000012048": "BRCA1",
    "ENSG00000075624": "ACTB",
    "ENSG00000090382": "LYZ",
    "ENSG00000101439": "CST3",
    "ENSG00000105369": "CD79A",
    "ENSG00000105374": "NKG7",
    "ENSG00000111640": "GAPDH",
    "ENSG00000111796": "KLRB1",
    "ENSG00000115523": "GNLY",
    "ENSG00000126353": "CCR7",
    "ENSG00000136997": "MYC",
    "ENSG00000141510": "TP53",
    "ENSG00000146648": "EGFR",
    "ENSG00000153563": "CD8A",
    "ENSG00000156738": "MS4A1",
    "ENSG00000163736": "PPBP",
    "ENSG00000166710": "B2M",
    "ENSG00000168685": "IL7R",
    "ENSG00000170458": "CD14",
    "ENSG00000177455": "CD19",
    "ENSG00000179639": "FCER1A",
    "ENSG00000196154": "S100A4",
    "ENSG00000198851": "CD3E",
    "ENSG00000203747": "FCGR3A",
    "ENSG00000251562": "MALAT1",
}
GENES = tuple(SYMBOLS)
PAD = 1
MIXER = "mamba_mixer.layers.{}.mamba."


def make_published(
    folder,
    *,
    n_layers=2,
    d_model=64,
    fusion="mean",
    prefix="",
    n_shards=1,
    genes=GENES,
    cls=False,
    head=True,
    dtype=torch.float32,
    d_state=64,
    config=True,
    seed=0,
):
    """Write a checkpoint with random weights; tensors by published name, without the prefix."""
    n_tokens = 2 + len(genes) + cls
    tensors = random_tensors(n_tokens, n_layers, d_model, d_state, fusion in ("gate", "concat"), head, seed)
    tensors = {name: value.to(dtype) for name, value in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder, {prefix + name: value for name, value in tensors.items()}, n_shards)
    if config:
        told = {"mode": fusion} if fusion in ("gate", "concat") else {}
        write_config(folder, d_model=d_model, mamba_layer=n_layers, vocab_size=n_tokens, **told)
    write_tokenizer(folder, genes)
    return tensors


def random_tensors(n_tokens, n_layers, d_model, d_state, aggregator, head, seed=0):
    """All tensors of section 3.1, none of them at its initial value."""
    rng = np.random.default_rng(seed)
    inner, heads = 2 * d_model, 2 * d_model // 64
    channels = inner + 2 * d_state

    def normal(*shape, mean=0.0, std=1.0):
        return torch.from_numpy((mean + std * rng.standard_normal(shape)).astype(np.float32))

    tensors = {"embeddings.weight": normal(n_tokens, d_model)}
    for i in range(n_layers):
        dt = np.exp(rng.uniform(np.log(1e-3), np.log(0.5), heads))
        parts = {
            "in_proj.weight": normal(inner + channels + heads, d_model, std=d_model**-0.5),
            "conv1d.weight": normal(channels, 1, 4, std=0.5),
            "conv1d.bias": normal(channels, std=0.2),
            "dt_bias": torch.from_numpy((dt + np.log(-np.expm1(-dt))).astype(np.float32)),
            "A_log": torch.from_numpy(np.log(rng.uniform(1, 16, heads)).astype(np.float32)),
            "D": normal(heads, mean=1.0, std=0.3),
            "norm.weight": normal(inner, mean=1.0, std=0.2),
            "out_proj.weight": normal(d_model, inner, std=inner**-0.5),
        }
        tensors |= {MIXER.format(i) + part: value for part, value in parts.items()}
    if aggregator:
        tensors["mamba_mixer.aggr.weight"] = normal(d_model, 2 * d_model, std=(2 * d_model) ** -0.5)
        tensors["mamba_mixer.aggr.bias"] = normal(d_model, std=0.2)
    tensors["norm_f.weight"] = normal(d_model, mean=1.0, std=0.2)
    if head:
        tensors |= {"lm_head.weight": normal(n_tokens, d_model, std=0.1), "lm_head.bias": normal(n_tokens)}
    return tensors


def random_classifier(d_model, n_classes, seed=7):
    """Tensors of the published classifier, by published name: linear maps at 0, 4, 8, 12 and norms at 1, 5, 9."""
    rng = np.random.default_rng(seed)
    tensors = {}
    widths = [d_model, 512, 512, 512, n_classes]
    for i, (before, after) in enumerate(zip(widths, widths[1:], strict=False)):
        parts = {"weight": rng.normal(0, before**-0.5, (after, before)), "bias": rng.normal(0, 0.3, after)}
        tensors |= {f"classifier.layers.{4 * i}.{name}": value for name, value in parts.items()}
        if i < 3:
            parts = {"weight": rng.normal(1, 0.2, after), "bias": rng.normal(0, 0.2, after)}
            parts |= {"running_mean": rng.normal(0, 0.3, after), "running_var": rng.uniform(0.3, 2, after)}
            tensors |= {f"classifier.layers.{4 * i + 1}.{name}": value for name, value in parts.items()}
    tensors = {name: torch.from_numpy(value.astype(np.float32)) for name, value in tensors.items()}
    return {**tensors, **{f"classifier.layers.{4 * i + 1}.num_batches_tracked": torch.tensor(321) for i in range(3)}}


def classify(tensors, x):
    """Probabilities ``(n, n_classes)`` of the published classifier for hidden states ``(n, d)``; float64."""
    w = {name.removeprefix("classifier.layers."): v.double().numpy() for name, v in tensors.items()}
    for i in (0, 4, 8):
        x = x @ w[f"{i}.weight"].T + w[f"{i}.bias"]
        x = (x - w[f"{i + 1}.running_mean"]) / np.sqrt(w[f"{i + 1}.running_var"] + 1e-5)
        x = x * w[f"{i + 1}.weight"] + w[f"{i + 1}.bias"]
        x = np.where(x > 0, x, 0.1 * x)
    logits = x @ w["12.weight"].T + w["12.bias"]
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def write_weights(folder, tensors, n_shards=1):
    """Write tensors under the names they have, in one file or with an index."""
    if n_shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names, weight_map = sorted(tensors), {}
    for i in range(n_shards):
        file = f"model-{i + 1:05d}-of-{n_shards:05d}.safetensors"
        shard = {name: tensors[name] for name in names[i::n_shards]}
        save_file(shard, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    size = sum(value.numel() * value.element_size() for value in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def write_config(folder, **settings):
    """Write config.json as the original has it, with some settings of one's own."""
    fixed = {"architectures": ["MambaModel"], "torch_dtype": "float32", "transformers_version": "4.40.2"}
    (folder / "config.json").write_text(json.dumps({**fixed, **settings}, indent=2))


def write_tokenizer(folder, genes, **model):
    """Write tokenizer.json by hand; ``model`` replaces entries of its model."""
    vocab = {"[UNK]": 0, "[PAD]": 1, **{gene: i + 2 for i, gene in enumerate(genes)}}
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]", **model},
    }
    (folder / "tokenizer.json").write_text(json.dumps(content, indent=2))


def cells(lengths, n_tokens=2 + len(GENES), width=None, seed=0):
    """Rows of different genes in random order, padded at the end: table ``(n, l)`` and lengths ``(n,)``."""
    rng = np.random.default_rng(seed)
    table = np.full((len(lengths), width or max(lengths)), PAD)
    for row, length in zip(table, lengths, strict=True):
        row[:length] = rng.permutation(np.arange(2, n_tokens))[:length]
    return table, np.array(lengths)


def oracle(tensors, tokens, lengths, fusion="mean", flip="masked"):
    """Hidden states ``(n, l, d)``, zero at padding, and logits ``(n, l, n_tokens)`` or ``None``; float64."""
    weights = {name: value.detach().double().numpy() for name, value in tensors.items()}
    hidden = np.zeros((*tokens.shape, weights["embeddings.weight"].shape[1]))
    for row, cell, length in zip(hidden, tokens, lengths, strict=True):
        read = cell if flip == "full" else cell[:length]
        row[:length] = _encode(weights, read, fusion)[:length]
    if "lm_head.weight" not in weights:
        return hidden, None
    return hidden, np.einsum("nld,vd->nlv", hidden, weights["lm_head.weight"]) + weights["lm_head.bias"]


def _encode(weights, ids, fusion):
    x = weights["embeddings.weight"][ids]
    for i in range(1 + max(int(n) for n in re.findall(r"layers\.(\d+)\.mamba\.D", " ".join(weights)))):
        mixer = {
            name.removeprefix(MIXER.format(i)): v for name, v in weights.items() if name.startswith(MIXER.format(i))
        }
        forward = x + _mamba2(mixer, x)
        backward = (x[::-1] + _mamba2(mixer, x[::-1]))[::-1]
        if fusion == "mean":
            x = 0.5 * (forward + backward)
        elif fusion == "sum":
            x = forward + backward
        else:
            both = np.concatenate([forward, backward], axis=-1)
            mapped = both @ weights["mamba_mixer.aggr.weight"].T + weights["mamba_mixer.aggr.bias"]
            gate = _sigmoid(mapped)
            x = mapped if fusion == "concat" else gate * forward + (1 - gate) * backward
    return _rms_norm(x, weights["norm_f.weight"])


def _mamba2(w, u):
    """Section 5.1: the state goes from token to token, head by head."""
    inner, heads = w["out_proj.weight"].shape[1], len(w["A_log"])
    n_state = (len(w["conv1d.bias"]) - inner) // 2
    z, xbc, dt = np.split(u @ w["in_proj.weight"].T, [inner, 2 * inner + 2 * n_state], axis=1)
    kernel = w["conv1d.weight"][:, 0]
    before = np.concatenate([np.zeros((kernel.shape[1] - 1, xbc.shape[1])), xbc])
    windows = [(before[t : t + kernel.shape[1]].T * kernel).sum(1) + w["conv1d.bias"] for t in range(len(u))]
    xbc = np.array([_silu(window) for window in windows])
    x, b, c = np.split(xbc, [inner, inner + n_state], axis=1)
    dt = np.logaddexp(0.0, dt + w["dt_bias"])
    width = inner // heads
    y = np.empty((len(u), inner))
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        rate, state = -np.exp(w["A_log"][head]), np.zeros((n_state, width))
        for t in range(len(u)):
            state = np.exp(dt[t, head] * rate) * state + dt[t, head] * np.outer(b[t], x[t, own])
            y[t, own] = c[t] @ state + w["D"][head] * x[t, own]
    return _rms_norm(y * _silu(z), w["norm.weight"]) @ w["out_proj.weight"].T


def _rms_norm(x, weight):
    return x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-5) * weight


def _sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def _silu(x):
    return x * _sigmoid(x)


def relative(found, expected):
    """Largest difference relative to the largest entry."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())
