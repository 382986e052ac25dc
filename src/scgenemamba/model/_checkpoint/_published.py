"""The published GeneMamba layout: key names, architecture from shapes, and writing it again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file

from scgenemamba.nn import GeneMambaConfig
from scgenemamba.tokens import Vocabulary, read_tokenizer_json, write_tokenizer_json

from ._contents import Checkpoint, LoadReport, Preprocessing
from ._files import CONFIG, TOKENIZER, WEIGHTS, WeightFiles, read_json_object

_PREFIX = re.compile(r"^(?:(?:module|model|genemamba|backbone)\.)+")
_LAYER = re.compile(r"^mamba_mixer\.layers\.(\d+)\.mamba\.(.+)$")
_CLASSIFIER = re.compile(r"^classifier\.layers\.(\d+)\.(weight|bias|running_mean|running_var|num_batches_tracked)$")
_MIXER = (
    "in_proj.weight",
    "conv1d.weight",
    "conv1d.bias",
    "dt_bias",
    "A_log",
    "D",
    "norm.weight",
    "out_proj.weight",
)
_MAMBA1 = ("x_proj.weight", "dt_proj.weight", "dt_proj.bias")
_EMBEDDING_ALIASES = ("embeddings.word_embeddings.weight",)
_AGGREGATOR = ("mamba_mixer.aggr.weight", "mamba_mixer.aggr.bias")
_TOKENIZERS = (TOKENIZER, "gene_tokenizer.json")
# names of one thing in the first release and on the hub
_CONFIG_ALIASES = {
    "d_model": ("d_model", "hidden_size"),
    "n_layers": ("mamba_layer", "num_hidden_layers", "n_layer"),
    "n_tokens": ("vocab_size",),
    "fusion": ("mode", "mamba_mode"),
    "max_tokens": ("max_position_embeddings",),
}
_TOKENS_READ = 2_048

Fusion = Literal["mean", "sum", "gate", "concat"]


def read_published(
    folder: Path,
    *,
    fusion: Fusion | None = None,
    pooling: tuple[str, ...] = ("mean",),
    flip: Literal["masked", "full"] = "masked",
    max_tokens: int | None = None,
    vocabulary: Vocabulary | None = None,
) -> Checkpoint:
    """Read a checkpoint in the published layout.

    Parameters
    ----------
    folder
        Holds the weights, ``config.json`` and ``tokenizer.json``; of the latter two, only the vocabulary is needed.
    fusion
        How the directions are joined, where the file does not say.
    pooling, flip, max_tokens
        Settings of the architecture that no tensor shows.
    vocabulary
        Genes in token order, where the folder has no ``tokenizer.json``.

    Raises
    ------
    FileNotFoundError
        If weights or vocabulary are missing.
    ValueError
        If tensors are missing or have other shapes than the layout, belong to Mamba-1, or hold NaN.
    """
    files = WeightFiles(folder)
    names, prefix = _strip_prefix(files)
    settings = read_json_object(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    report = LoadReport("published GeneMamba", [p.name for p in files.paths], files.n_bytes, prefix=prefix)
    shapes = {name: files.shapes[old] for name, old in names.items()}
    vocabulary = vocabulary or read_vocabulary(folder)
    sizes = _sizes(shapes)
    _check_vocabulary(sizes["n_tokens"], vocabulary)
    report.has_cls = sizes["n_tokens"] > vocabulary.n_tokens
    asked = _choose_fusion(fusion, _AGGREGATOR[0] in shapes, _from_config(settings, "fusion"), report)
    config = GeneMambaConfig(
        **sizes,
        fusion=asked,
        pre_norm=False,
        shared_aggregator=asked in ("gate", "concat"),
        tied_head=False,
        pooling=pooling,
        flip=flip,
        max_tokens=max_tokens or _from_config(settings, "max_tokens") or _TOKENS_READ,
    )
    _compare(settings, config, report)
    wanted = {**_encoder_names(config), **_head_names(shapes)}
    _check_shapes(shapes, config, wanted)
    classifier = {name: name for name in shapes if _CLASSIFIER.match(name)}
    report.unused = sorted(set(shapes) - set(wanted) - set(classifier))
    report.has_head = "lm_head.weight" in shapes
    tensors = files.tensors({names[name]: new for name, new in wanted.items()})
    head = {name.removeprefix("head."): tensors.pop(name) for name in list(tensors) if name.startswith("head.")}
    mixers = [value for name, value in tensors.items() if name.endswith((".D", "mixer.norm.weight"))]
    report.mixer_trained = not all(bool((value == 1).all()) for value in mixers)
    return Checkpoint(config, vocabulary, Preprocessing(), tensors, report, head=head)


def read_vocabulary(folder: Path) -> Vocabulary:
    """Vocabulary of a published checkpoint.

    Raises
    ------
    FileNotFoundError
        If there is no tokenizer file here nor in the folder above, where the hub keeps that of all sizes.
    """
    for place in (folder, folder.parent):
        for name in _TOKENIZERS:
            if (place / name).is_file():
                return read_tokenizer_json(place / name)
    msg = f"{folder} holds no {TOKENIZER}, which names the gene of each token."
    raise FileNotFoundError(msg)


def write_published(
    folder: Path,
    config: GeneMambaConfig,
    vocabulary: Vocabulary,
    encoder: Mapping[str, torch.Tensor],
    head: Mapping[str, torch.Tensor],
) -> None:
    """Write an encoder in the published layout.

    Raises
    ------
    ValueError
        If the layout has no place for something of the architecture.
    """
    reasons = {
        "it normalises the input of each layer (pre_norm)": config.pre_norm,
        "its layers take turns in direction": config.fusion == "alternate",
        "each layer has an aggregator of its own": config.fusion in ("gate", "concat") and not config.shared_aggregator,
    }
    if found := [reason for reason, holds in reasons.items() if holds]:
        msg = f"The published layout cannot hold this encoder: {'; '.join(found)}."
        raise ValueError(msg)
    tensors = {old: encoder[new].contiguous() for old, new in _encoder_names(config).items()}
    # safetensors holds no two names of one table
    tensors |= {f"lm_head.{name}": value.clone() for name, value in head.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    settings = {
        "architectures": ["MambaModel"],
        "d_model": config.d_model,
        "hidden_size": config.d_model,
        "mamba_layer": config.n_layers,
        "num_hidden_layers": config.n_layers,
        "vocab_size": config.n_tokens,
        "mode": config.fusion,
        "max_position_embeddings": config.max_tokens,
        "torch_dtype": "float32",
    }
    (folder / CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    write_tokenizer_json(folder / TOKENIZER, vocabulary)


def _strip_prefix(names: Any) -> tuple[dict[str, str], str]:
    """Key as in the file of each key without prefix, and the prefixes that were there."""
    found: dict[str, str] = {}
    prefixes = set()
    for old in names:
        match = _PREFIX.match(old)
        prefixes.add(match.group(0) if match else "")
        new = _PREFIX.sub("", old)
        new = "embeddings.weight" if new in _EMBEDDING_ALIASES else new
        if new in found:
            msg = f"Tensors {found[new]!r} and {old!r} mean the same, {new!r}."
            raise ValueError(msg)
        found[new] = old
    return found, ", ".join(sorted(prefixes - {""}))


def _sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Sizes of the architecture, from shapes alone."""
    mamba1 = [name for name in shapes if name.endswith(_MAMBA1)]
    if mamba1:
        msg = f"These are weights of Mamba-1 ({mamba1[0]}), which GeneMamba's public code falls back to in silence, not of Mamba-2."
        raise ValueError(msg)
    layers = sorted({int(match.group(1)) for name in shapes if (match := _LAYER.match(name))})
    if "embeddings.weight" not in shapes or not layers:
        msg = (
            "This is no GeneMamba checkpoint: it needs 'embeddings.weight' and 'mamba_mixer.layers.0.mamba.*', and has "
            f"{', '.join(sorted(shapes)[:4])}{', ...' if len(shapes) > 4 else ''}."
        )
        raise ValueError(msg)
    if layers != list(range(len(layers))):
        msg = f"Layers are missing: there are {len(layers)}, numbered up to {layers[-1]}."
        raise ValueError(msg)
    first = {part: _shape(shapes, f"mamba_mixer.layers.0.mamba.{part}") for part in _MIXER}
    ranks = {"A_log": 1, "out_proj.weight": 2, "conv1d.weight": 3, "in_proj.weight": 2}
    for part, rank in ranks.items():
        if len(first[part]) != rank:
            msg = f"mamba_mixer.layers.0.mamba.{part} has shape {first[part]}; Mamba-2 has {rank} axes there."
            raise ValueError(msg)
    n_tokens, d_model = _two(shapes, "embeddings.weight")
    d_inner, heads, channels = first["out_proj.weight"][1], first["A_log"][0], first["conv1d.weight"][0]
    d_state = (channels - d_inner) // 2
    if d_inner % d_model or not heads or d_inner % heads or d_state < 1:
        msg = (
            f"Shapes do not fit together: d_model {d_model}, inner width {d_inner}, {heads} heads, {channels} channels."
        )
        raise ValueError(msg)
    return {
        "n_tokens": n_tokens,
        "d_model": d_model,
        "n_layers": len(layers),
        "d_state": d_state,
        "d_conv": first["conv1d.weight"][2],
        "expand": d_inner // d_model,
        "headdim": d_inner // heads,
    }


def _shape(shapes: Mapping[str, tuple[int, ...]], name: str) -> tuple[int, ...]:
    if name not in shapes:
        msg = f"Tensor {name!r} is missing."
        raise ValueError(msg)
    return shapes[name]


def _two(shapes: Mapping[str, tuple[int, ...]], name: str) -> tuple[int, int]:
    shape = _shape(shapes, name)
    if len(shape) != 2 or 0 in shape:
        msg = f"{name} must be a table, and has shape {shape}."
        raise ValueError(msg)
    return shape[0], shape[1]


def _check_vocabulary(n_tokens: int, vocabulary: Vocabulary) -> None:
    if n_tokens not in (vocabulary.n_tokens, vocabulary.n_tokens + 1):
        msg = (
            f"The embedding table has {n_tokens} rows, and the tokenizer {vocabulary.n_tokens} tokens (one more row would be "
            "[CLS]): they do not belong together."
        )
        raise ValueError(msg)


def _choose_fusion(asked: str | None, has_aggregator: bool, configured: Any, report: LoadReport) -> Any:
    fits = ("gate", "concat") if has_aggregator else ("mean", "sum")
    told = asked or (configured if isinstance(configured, str) else None)
    if told is not None and told not in fits:
        there = "has" if has_aggregator else "has no"
        msg = f"fusion={told!r} does not fit the weights: the file {there} aggregator, so it is {fits[0]!r} or {fits[1]!r}."
        if asked:
            raise ValueError(msg)
        report.disagreements.append(f"config.json says mode {told!r}, but the file {there} aggregator")
        told = None
    if told is not None:
        report.fusion, report.fusion_reason = told, "asked for" if asked else "said by config.json"
    else:
        why = (
            "as the paper and the launch script have it; 'concat' has the same tensors"
            if has_aggregator
            else "no aggregator"
        )
        report.fusion, report.fusion_reason = fits[0], why
    return report.fusion


def _from_config(settings: Mapping[str, Any], key: str) -> Any:
    return next((settings[name] for name in _CONFIG_ALIASES[key] if settings.get(name) is not None), None)


def _compare(settings: Mapping[str, Any], config: GeneMambaConfig, report: LoadReport) -> None:
    """Note where config.json contradicts the tensors, which are believed."""
    for key in ("d_model", "n_layers", "n_tokens"):
        for name in _CONFIG_ALIASES[key]:
            value = settings.get(name)
            if value is not None and value != getattr(config, key):
                report.disagreements.append(f"config.json says {name} {value}, the tensors {getattr(config, key)}")


def _encoder_names(config: GeneMambaConfig) -> dict[str, str]:
    """Our name of each tensor of the encoder, by its published name."""
    names = {"embeddings.weight": "embeddings.weight", "norm_f.weight": "norm_f.weight"}
    for i in range(config.n_layers):
        names |= {f"mamba_mixer.layers.{i}.mamba.{part}": f"layers.{i}.mixer.{part}" for part in _MIXER}
    if config.fusion in ("gate", "concat"):
        names |= dict(zip(_AGGREGATOR, ("aggregator.weight", "aggregator.bias"), strict=True))
    return names


def _head_names(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    return {f"lm_head.{part}": f"head.{part}" for part in ("weight", "bias") if f"lm_head.{part}" in shapes}


def _check_shapes(shapes: Mapping[str, tuple[int, ...]], config: GeneMambaConfig, wanted: Mapping[str, str]) -> None:
    """Refuse tensors that are missing or of another shape than the architecture's."""
    d, inner, state, heads = config.d_model, config.d_inner, config.d_state, config.n_heads
    channels = inner + 2 * state
    expected: dict[str, tuple[int, ...]] = {
        "embeddings.weight": (config.n_tokens, d),
        "norm_f.weight": (d,),
        "aggr.weight": (d, 2 * d),
        "aggr.bias": (d,),
        "lm_head.weight": (config.n_tokens, d),
        "lm_head.bias": (config.n_tokens,),
        "in_proj.weight": (inner + channels + heads, d),
        "conv1d.weight": (channels, 1, config.d_conv),
        "conv1d.bias": (channels,),
        "dt_bias": (heads,),
        "A_log": (heads,),
        "D": (heads,),
        "norm.weight": (inner,),
        "out_proj.weight": (d, inner),
    }
    missing = [name for name in wanted if name not in shapes]
    if missing:
        msg = f"{len(missing)} tensors are missing: {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}."
        raise ValueError(msg)
    for name in wanted:
        match = _LAYER.match(name)
        part = match.group(2) if match else name.removeprefix("mamba_mixer.")
        if shapes[name] != expected[part]:
            msg = f"Tensor {name!r} has shape {shapes[name]}, the other tensors need {expected[part]}."
            raise ValueError(msg)
    if ("lm_head.weight" in shapes) != ("lm_head.bias" in shapes):
        msg = "Of lm_head, either the weight or the bias is missing."
        raise ValueError(msg)
