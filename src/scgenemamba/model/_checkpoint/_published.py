"""The published GeneMamba layout: key names, architecture from shapes, and writing it again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from scgenemamba._logging import logger
from scgenemamba.nn import GeneMambaConfig
from scgenemamba.tokens import Vocabulary, read_tokenizer_json, write_tokenizer_json

from ._contents import Checkpoint, LoadReport, Preprocessing
from ._files import CONFIG, TOKENIZER, TOKENIZERS, WEIGHTS, WeightFiles, read_json_object, write_tensors
from ._layout import (
    AGGREGATOR,
    CLASSIFIER,
    ENCODER,
    HEAD,
    LAST_LAYER,
    check_shapes,
    classifier_names,
    encoder_names,
    head_names,
    sizes_of,
    strip_prefix,
)

# names of one thing in the first release and on the hub
_CONFIG_ALIASES = {
    "d_model": ("d_model", "hidden_size"),
    "n_layers": ("mamba_layer", "num_hidden_layers", "n_layer"),
    "n_tokens": ("vocab_size",),
    "fusion": ("mode", "mamba_mode"),
    "max_tokens": ("max_position_embeddings",),
}
_TOKENS_READ = 2_048
_MOST_TOKENS = 10_000_000

Fusion = Literal["mean", "sum", "gate", "concat"]


def read_published(
    folder: Path,
    *,
    fusion: Fusion | None = None,
    pooling: tuple[str, ...] = ("mean",),
    flip: Literal["masked", "full"] = "masked",
    max_tokens: int | None = None,
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

    Raises
    ------
    FileNotFoundError
        If weights or vocabulary are missing.
    ValueError
        If tensors are missing or have other shapes than the layout, belong to Mamba-1, or hold NaN.
    """
    files = WeightFiles(folder)
    names, prefix = strip_prefix(files)
    settings = read_json_object(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    report = LoadReport("published GeneMamba", [p.name for p in files.paths], files.n_bytes, prefix=prefix)
    shapes = {name: files.shapes[old] for name, old in names.items()}
    vocabulary = read_vocabulary(folder)
    sizes = sizes_of(shapes)
    _check_vocabulary(sizes["n_tokens"], vocabulary)
    asked = _choose_fusion(fusion, any(name in shapes for name in AGGREGATOR), _from_config(settings, "fusion"), report)
    config = GeneMambaConfig(
        **sizes,
        fusion=asked,
        pre_norm=False,
        shared_aggregator=asked in ("gate", "concat"),
        tied_head=False,
        pooling=pooling,
        flip=flip,
        max_tokens=_tokens_read(settings) if max_tokens is None else max_tokens,
    )
    _compare(settings, config, report)
    wanted = {old: ENCODER + new for old, new in encoder_names(config).items()} | head_names(shapes)
    check_shapes(shapes, config, wanted)
    classifier = classifier_names(shapes, config.d_model)
    wanted |= classifier
    report.unused = sorted(set(shapes) - set(wanted) - {n for n in shapes if n.endswith("num_batches_tracked")})
    tensors = files.tensors({names[name]: new for name, new in wanted.items()})
    encoder, head = tensors.only(ENCODER), tensors.only(HEAD)
    found = Checkpoint(config, vocabulary, Preprocessing(), encoder, report, head=head)
    found.classifier = tensors.only(CLASSIFIER)
    for name, values in found.classifier.items():
        if name.endswith("running_var") and bool((values < 0).any()):
            msg = f"Tensor 'classifier.{name}' holds a variance below zero."
            raise ValueError(msg)
    found.classes = _class_names(settings, len(found.classifier[f"layers.{LAST_LAYER}.bias"]) if classifier else 0)
    return found


def read_vocabulary(folder: Path) -> Vocabulary:
    """Vocabulary of a published checkpoint.

    Raises
    ------
    FileNotFoundError
        If there is no tokenizer file here nor in the folder above, where the hub keeps that of all sizes.
    """
    for place in (folder, folder.parent):
        for name in TOKENIZERS:
            if (place / name).is_file():
                if place != folder:
                    logger.info(f"The genes are those of {place / name}.")
                return read_tokenizer_json(place / name)
    msg = f"{folder} holds no {TOKENIZER}, which names the gene of each token."
    raise FileNotFoundError(msg)


def write_published(
    folder: Path,
    config: GeneMambaConfig,
    vocabulary: Vocabulary,
    encoder: Mapping[str, torch.Tensor],
    head: Mapping[str, torch.Tensor],
    *,
    classifier: Mapping[str, torch.Tensor],
    classes: Sequence[str],
) -> None:
    """Write an encoder, and what heads there are, in the published layout.

    Raises
    ------
    ValueError
        If the layout has no place for something of the architecture.
    """
    reasons = {
        "it has no layers": not config.n_layers,
        "it normalises the input of each layer (pre_norm)": config.pre_norm,
        "its layers take turns in direction": config.fusion == "alternate",
        "each layer has an aggregator of its own": config.fusion in ("gate", "concat") and not config.shared_aggregator,
    }
    if found := [reason for reason, holds in reasons.items() if holds]:
        msg = f"The published layout cannot hold this encoder: {'; '.join(found)}."
        raise ValueError(msg)
    tensors = {old: encoder[new].contiguous() for old, new in encoder_names(config).items()}
    # safetensors holds no two names of one table
    tensors |= {f"lm_head.{name}": value.clone() for name, value in head.items()}
    tensors |= {f"classifier.{name}": value.contiguous() for name, value in classifier.items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, tensors)
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
        **({"id2label": {str(i): name for i, name in enumerate(classes)}} if classes else {}),
    }
    (folder / CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    write_tokenizer_json(folder / TOKENIZER, vocabulary)


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
        report.fusion_reason = "asked for" if asked else "said by config.json"
        return told
    paper = "as the paper and the launch script have it; 'concat' has the same tensors"
    report.fusion_reason = paper if has_aggregator else "no aggregator"
    return fits[0]


def _from_config(settings: Mapping[str, Any], key: str) -> Any:
    return next((settings[name] for name in _CONFIG_ALIASES[key] if settings.get(name) is not None), None)


def _tokens_read(settings: Mapping[str, Any]) -> int:
    value = _from_config(settings, "max_tokens")
    if value is None:
        return _TOKENS_READ
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _MOST_TOKENS:
        msg = (
            f"{CONFIG} has max_position_embeddings {value!r}, which is no number of tokens. Say it with `max_tokens=`."
        )
        raise ValueError(msg)
    return value


def _compare(settings: Mapping[str, Any], config: GeneMambaConfig, report: LoadReport) -> None:
    """Note where config.json contradicts the tensors, which are believed."""
    for key in ("d_model", "n_layers", "n_tokens"):
        for name in _CONFIG_ALIASES[key]:
            value = settings.get(name)
            if value is not None and value != getattr(config, key):
                report.disagreements.append(f"config.json says {name} {value}, the tensors {getattr(config, key)}")


def _class_names(settings: Mapping[str, Any], n_classes: int) -> list[str]:
    names = settings.get("id2label")
    names = names if isinstance(names, dict) else {}
    return [str(names.get(str(i), i)) for i in range(n_classes)]
