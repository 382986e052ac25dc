"""Names and shapes of the tensors of a published GeneMamba."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch

from scgenemamba.nn import GeneMambaConfig, PublishedClassifier

#: What our names of tensors begin with, by where they go.
ENCODER, HEAD, CLASSIFIER = "encoder.", "head.", "classifier."
AGGREGATOR = ("mamba_mixer.aggr.weight", "mamba_mixer.aggr.bias")
#: Number of the classifier's last linear map.
LAST_LAYER = 12

_PREFIX = re.compile(r"^(?:(?:module|model|genemamba|backbone)\.)+")
_LAYER = re.compile(r"^mamba_mixer\.layers\.(\d+)\.mamba\.(.+)$")
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
_MOST_DIGITS = 4
_MAMBA1 = ("x_proj.weight", "dt_proj.weight", "dt_proj.bias")
_EMBEDDING_ALIASES = ("embeddings.word_embeddings.weight",)


def strip_prefix(names: Iterable[str]) -> tuple[dict[str, str], str]:
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


def sizes_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Sizes of the architecture, from shapes alone."""
    mamba1 = [name for name in shapes if name.endswith(_MAMBA1)]
    if mamba1:
        msg = f"These are weights of Mamba-1 ({mamba1[0]}), which GeneMamba's public code falls back to in silence, not of Mamba-2."
        raise ValueError(msg)
    numbers = {match.group(1) for name in shapes if (match := _LAYER.match(name))}
    if absurd := [number for number in numbers if len(number) > _MOST_DIGITS]:
        msg = f"There is a layer with the number {absurd[0][:20]}: this is no GeneMamba checkpoint."
        raise ValueError(msg)
    layers = sorted(map(int, numbers))
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


def encoder_names(config: GeneMambaConfig) -> dict[str, str]:
    """Our name of each tensor of the encoder, by its published name."""
    names = {"embeddings.weight": "embeddings.weight", "norm_f.weight": "norm_f.weight"}
    for i in range(config.n_layers):
        names |= {f"mamba_mixer.layers.{i}.mamba.{part}": f"layers.{i}.mixer.{part}" for part in _MIXER}
    if config.fusion in ("gate", "concat"):
        names |= dict(zip(AGGREGATOR, ("aggregator.weight", "aggregator.bias"), strict=True))
    return names


def head_names(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    return {f"lm_head.{part}": HEAD + part for part in ("weight", "bias") if f"lm_head.{part}" in shapes}


def classifier_names(shapes: Mapping[str, tuple[int, ...]], d_model: int) -> dict[str, str]:
    """Our name of each tensor of the classifier of a fine-tuned file, none if there is no classifier.

    Raises
    ------
    ValueError
        If it is not built like that of published fine-tuned weights.
    """
    there = {name for name in shapes if name.startswith("classifier.") and not name.endswith("num_batches_tracked")}
    if not there:
        return {}
    last = shapes.get(f"classifier.layers.{LAST_LAYER}.weight", ())
    with torch.device("meta"):
        state = PublishedClassifier(d_model, last[0] if last else 1).state_dict()
    expected = {f"classifier.{k}": tuple(v.shape) for k, v in state.items() if not k.endswith("num_batches_tracked")}
    wrong = (there ^ set(expected)) | {name for name in there & set(expected) if shapes[name] != expected[name]}
    if wrong or 0 in last:
        some = ", ".join(sorted(wrong)[:5]) or "it has no classes"
        msg = f"The classifier is not built like that of published fine-tuned weights: {some}."
        raise ValueError(msg)
    return {name: CLASSIFIER + name.removeprefix("classifier.") for name in expected}


def check_shapes(shapes: Mapping[str, tuple[int, ...]], config: GeneMambaConfig, wanted: Mapping[str, str]) -> None:
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
