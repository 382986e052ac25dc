"""Our own format: weights as safetensors, everything else as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays

from scgenemamba.model._constants import (
    ANNOTATION_GENES,
    FACTORS_SOURCE,
    GENES,
    LABELS_KEY,
    LANGUAGE,
    MEDIANS,
    RANK_MODE,
    VARIABLE_GENES,
    X_KEY,
)
from scgenemamba.nn import GeneMambaConfig
from scgenemamba.tokens import Vocabulary, read_tokenizer_json, write_tokenizer_json
from scgenemamba.train import Annotator, is_unused

from ._contents import Checkpoint, LoadReport, Preprocessing
from ._files import CONFIG, TOKENIZER, WEIGHTS, WeightFiles, read_json_object, write_tensors
from ._plain import from_plain, to_plain
from ._saved import check_architecture, check_saved, check_values

FORMAT, VERSION = "scgenemamba", 1
PREPROCESSING = "preprocessing.safetensors"
ANNOTATION = "annotation.safetensors"

_KINDS = {MEDIANS: "float64", VARIABLE_GENES: "int32"}
_ENCODER = "network.encoder."
_HEADS = tuple(f"objectives.{name}.head." for name in LANGUAGE)
#: Names of the heads' weights in a whole module, not saved where they are the embedding table.
TIED = tuple(f"{head}weight" for head in _HEADS)


def is_native(folder: Path) -> bool:
    """Whether a folder holds a checkpoint in our format."""
    return (folder / CONFIG).is_file() and read_json_object(folder / CONFIG).get("format") == FORMAT


def write_native(
    folder: Path,
    *,
    config: GeneMambaConfig,
    state: Mapping[str, torch.Tensor],
    registry: Mapping[str, Any],
    init: Mapping[str, Any],
    attributes: Mapping[str, Any],
    annotation: Mapping[str, np.ndarray],
    versions: Mapping[str, str],
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model.

    Parameters
    ----------
    folder
        Made if it does not exist.
    config
        Architecture.
    state
        Parameters and buffers of the whole module.
    registry, init, attributes
        scvi-tools' registry, arguments of the model, and its attributes worth keeping.
    annotation
        Arrays of the annotation, empty if there is none.
    versions
        Versions of what it was made with.
    dtype
        Of the weights, ``None`` as they are. The annotation's arrays of single precision then have half of it as well.
    """
    fields = dict(registry["field_registries"])
    expression = {**fields[X_KEY], "state_registry": dict(fields[X_KEY]["state_registry"])}
    arrays = expression["state_registry"]
    fields[X_KEY] = expression
    vocabulary = Vocabulary(arrays.pop(GENES))
    # names of the training data's columns: they are matched anew
    arrays.pop("column_names", None)
    saved = {
        "format": FORMAT,
        "format_version": VERSION,
        "architecture": config.to_dict(),
        "init": to_plain(dict(init), "init"),
        "attributes": to_plain(dict(attributes), "attributes"),
        "versions": dict(versions),
    }
    preprocessing: dict[str, np.ndarray] = {
        MEDIANS: np.asarray(arrays.pop(MEDIANS), dtype=np.float64),
        VARIABLE_GENES: np.asarray(arrays.pop(VARIABLE_GENES), dtype=np.int32),
    }
    saved["registry"] = to_plain({**registry, "field_registries": fields}, "registry")
    folder.mkdir(parents=True, exist_ok=True)
    left_out = set(TIED) if config.tied_head else set()
    # counters of norms are no weights
    kept = {name: value for name, value in state.items() if name not in left_out and value.is_floating_point()}
    tensors = {name: value.detach().to("cpu", dtype).contiguous() for name, value in kept.items()}
    write_tensors(folder / WEIGHTS, tensors)
    write_tensors(folder / PREPROCESSING, {name: torch.from_numpy(array) for name, array in preprocessing.items()})
    if annotation:
        arrays = {name: torch.from_numpy(np.asarray(array, order="C")) for name, array in annotation.items()}
        if dtype is not None and dtype.itemsize == 2:
            # 16 bits as NumPy has them
            arrays = {name: array.half() if array.dtype == torch.float32 else array for name, array in arrays.items()}
        write_tensors(folder / ANNOTATION, arrays)
    else:
        # of a model that was saved here before
        (folder / ANNOTATION).unlink(missing_ok=True)
    write_tokenizer_json(folder / TOKENIZER, vocabulary)
    (folder / CONFIG).write_text(json.dumps(saved, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_native(folder: Path) -> Checkpoint:
    """Read what :func:`write_native` wrote.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is broken, or was written by a later version.
    """
    saved = read_json_object(folder / CONFIG)
    if saved.get("format_version") != VERSION:
        msg = f"{CONFIG} has format version {saved.get('format_version')}, this version reads {VERSION}: update scgenemamba."
        raise ValueError(msg)
    try:
        check_saved(saved)
        registry, init = from_plain(saved["registry"]), from_plain(saved["init"])
        attributes, config = from_plain(saved["attributes"]), GeneMambaConfig.from_dict(saved["architecture"])
        check_values(registry)
    except (TypeError, AttributeError, RecursionError) as error:
        msg = f"{CONFIG} describes no model: {error}"
        raise ValueError(msg) from error
    for name in (TOKENIZER, PREPROCESSING):
        if not (folder / name).is_file():
            msg = f"{folder} holds no {name}: the checkpoint is incomplete."
            raise FileNotFoundError(msg)
    vocabulary = read_tokenizer_json(folder / TOKENIZER)
    state = registry["field_registries"][X_KEY]["state_registry"]
    arrays = _read_arrays(folder / PREPROCESSING, vocabulary)
    state |= {GENES: vocabulary.genes, "column_names": vocabulary.genes, **arrays}
    files = WeightFiles(folder)
    check_architecture(config, vocabulary, files.shapes)
    tensors = files.tensors({name: name for name in files if not is_unused(name)})
    encoder = tensors.only(_ENCODER)
    head = next(filter(None, (dict(tensors.only(prefix)) for prefix in _HEADS)), {})
    if head and config.tied_head and "embeddings.weight" in encoder:
        head["weight"] = encoder["embeddings.weight"]
    report = LoadReport(FORMAT, [path.name for path in files.paths], files.n_bytes, fusion_reason="said by config.json")
    annotation = _read_annotation(folder / ANNOTATION, attributes, config, len(arrays[VARIABLE_GENES]))
    kept = {
        "state": tensors,
        "registry": registry,
        "init": init,
        "attributes": {**attributes, "annotation_": annotation},
    }
    mode = state.get(RANK_MODE, "median")
    preprocessing = Preprocessing(mode, arrays[MEDIANS], str(state.get(FACTORS_SOURCE, "")))
    # the last category means "no label"
    labels = registry["field_registries"][LABELS_KEY]["state_registry"]["categorical_mapping"][:-1]
    found = Checkpoint(config, vocabulary, preprocessing, encoder, report, head=head, saved=kept)
    found.classes = [str(label) for label in labels]
    return found


def _read_annotation(
    path: Path, attributes: Mapping[str, Any], config: GeneMambaConfig, n_variable: int
) -> dict[str, np.ndarray]:
    labels = attributes.get("annotation_labels_", [])
    if not labels:
        return {}
    if not path.is_file():
        msg = f"{path.parent} holds no {path.name}: the checkpoint is incomplete."
        raise FileNotFoundError(msg)
    try:
        arrays = load_arrays(path)
        arrays = {
            name: array.astype(np.float32) if array.dtype == np.float16 else array for name, array in arrays.items()
        }
        n_genes = min(n_variable, ANNOTATION_GENES)
        Annotator.from_arrays(arrays).check(n_latent=config.n_latent, n_labels=len(labels), n_genes=n_genes)
    # AttributeError and KeyError: of types that NumPy does not have
    except (SafetensorError, ValueError, TypeError, OSError, AttributeError, KeyError) as error:
        msg = f"{path.name} holds no annotation of this model: {error}"
        raise ValueError(msg) from error
    return arrays


def _read_arrays(path: Path, vocabulary: Vocabulary) -> dict[str, np.ndarray]:
    try:
        arrays = load_arrays(path)
    except (SafetensorError, ValueError, TypeError, OSError) as error:
        msg = f"{path.name} is no valid safetensors file: {error}"
        raise ValueError(msg) from error
    kinds = {name: str(array.dtype) for name, array in arrays.items()}
    if kinds != _KINDS or arrays[MEDIANS].shape != (len(vocabulary),):
        msg = f"{path.name} must hold {MEDIANS!r}, one per gene of {TOKENIZER}, and {VARIABLE_GENES!r}."
        raise ValueError(msg)
    chosen = arrays[VARIABLE_GENES]
    if chosen.ndim != 1 or ((chosen < Vocabulary.FIRST_GENE) | (chosen >= vocabulary.n_tokens)).any():
        msg = f"{VARIABLE_GENES!r} of {path.name} holds ids of no gene."
        raise ValueError(msg)
    return arrays
