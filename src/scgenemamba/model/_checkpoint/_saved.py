"""Whether what config.json of our format says can be made into a model: it may come from anyone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from scgenemamba.model._constants import BATCH_KEY, LABELS_KEY, RANK_MODE, SCALE, X_KEY
from scgenemamba.nn import GeneMambaConfig
from scgenemamba.tokens import Scale, Vocabulary

from ._contents import RANK_MODES

#: Attributes of a model that are kept, and their type.
KEPT: Mapping[str, type | tuple[type, ...]] = {
    "is_trained_": bool,
    "latent_trained_": bool,
    "head_trained_": bool,
    "history_": (dict, type(None)),
    "objectives_": list,
    "likelihood_": str,
    "representation_": str,
    "annotation_labels_": list,
    "ontology_ids_": dict,
}
#: Arguments of ``setup_anndata``, and their defaults.
SETUP_DEFAULTS: Mapping[str, Any] = {
    "layer": None,
    "batch_key": None,
    "labels_key": None,
    "unlabeled_category": "Unknown",
    "gene_key": None,
    "use_raw": False,
    "size_factor_key": None,
    "categorical_covariate_keys": None,
    "continuous_covariate_keys": None,
}
# numbers may stand for each other, and lists for tuples
_KINDS: tuple[tuple[type, ...], ...] = ((bool,), (int, float), (str,), (list, tuple))
_NEEDED = ("architecture", "init", "registry", "attributes")
_CATEGORIES = "categorical_mapping"


def check_saved(saved: Mapping[str, Any]) -> None:
    """Refuse what is no description of a model.

    Raises
    ------
    ValueError
        Naming the entry.
    """
    for key in _NEEDED:
        _expect(isinstance(saved.get(key), dict), f"lacks {key!r}")
    for name, value in saved["attributes"].items():
        _expect(name in KEPT and isinstance(value, KEPT[name]), f"has attributes that no model keeps: {name}")
    curves = saved["attributes"].get("history_") or {}
    good = all(isinstance(curve, dict) and all(map(_are_numbers, curve.values())) for curve in curves.values())
    _expect(good, "has attributes with a history_ that is none")
    good = all(isinstance(name, str) for name in saved["attributes"].get("objectives_", []))
    _expect(good, "has attributes with objectives_ that are no names")
    labels = saved["attributes"].get("annotation_labels_", [])
    good = all(isinstance(label, str | int | float) for label in labels) and len(set(labels)) == len(labels)
    _expect(good, "has attributes with annotation_labels_ that are no names")
    ids = saved["attributes"].get("ontology_ids_", {})
    _expect(all(isinstance(text, str) for text in ids.values()), "has attributes with ontology_ids_ that are no names")
    _expect(
        all(isinstance(part, dict) for part in saved["init"].values()), "has 'init' that is no arguments of a model"
    )
    registry = saved["registry"]
    _expect(
        registry.get("model_name") == "GeneMambaModel", f"has the model {registry.get('model_name')!r} in its registry"
    )
    method = registry.get("setup_method_name")
    _expect(method == "setup_anndata", f"names the setup method {method!r}")
    setup = registry.get("setup_args")
    _expect(isinstance(setup, dict) and set(setup) <= set(SETUP_DEFAULTS), "has unknown setup_args in its registry")
    fields = registry.get("field_registries")
    _expect(isinstance(fields, dict), "has no fields in its registry")
    for key in (X_KEY, BATCH_KEY, LABELS_KEY):
        field = fields.get(key)
        good = isinstance(field, dict) and all(
            isinstance(field.get(p), dict) for p in ("state_registry", "summary_stats")
        )
        _expect(good, f"has no field {key!r} in its registry")


def check_values(registry: Mapping[str, Any]) -> None:
    """Refuse a registry whose parts do not fit together, after :func:`check_saved`.

    Raises
    ------
    ValueError
        Naming the entry.
    """
    fields = registry["field_registries"]
    for key in (BATCH_KEY, LABELS_KEY):
        categories, number = (
            fields[key]["state_registry"].get(_CATEGORIES),
            fields[key]["summary_stats"].get(f"n_{key}"),
        )
        fits = categories is not None and len(categories) == number
        _expect(fits, f"has {number} {key} in its registry, and another number of names")
    state = fields[X_KEY]["state_registry"]
    mode = state.get(RANK_MODE, "median")
    _expect(mode in RANK_MODES, f"has the unknown rank mode {mode!r}")
    try:
        Scale(**state[SCALE])
    except (KeyError, TypeError, ValueError) as error:
        msg = f"config.json has no scale of the values in its registry ({error})."
        raise ValueError(msg) from error


def check_arguments(given: Mapping[str, Any], function: Callable[..., Any]) -> None:
    """Refuse arguments that a function does not take, or that are of another kind than their default.

    Raises
    ------
    ValueError
        Naming the argument.
    """
    known = signature(function).parameters
    for name, value in given.items():
        default = known[name].default if name in known else None
        kinds = next((kinds for kinds in _KINDS if isinstance(default, kinds)), None)
        fits = name in known and (kinds is None or isinstance(value, kinds))
        _expect(fits, f"has init of no model: {name}={str(value)[:50]!r}")


def check_architecture(config: GeneMambaConfig, vocabulary: Vocabulary, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse an architecture that is not that of the tensors, before anything is made of its size.

    Parameters
    ----------
    config
        From config.json.
    vocabulary
        From tokenizer.json.
    shapes
        Of the tensors of the whole module.

    Raises
    ------
    ValueError
        Naming what differs.
    """
    encoder = "network.encoder."
    table = shapes.get(f"{encoder}embeddings.weight")
    wanted = (config.n_tokens, config.d_model)
    _expect(
        table == wanted,
        f"has an architecture of {wanted} n_tokens and d_model, and the tensor embeddings.weight {table}",
    )
    tokens = (vocabulary.n_tokens, vocabulary.n_tokens + 1)
    _expect(config.n_tokens in tokens, f"has {config.n_tokens} tokens, and tokenizer.json {vocabulary.n_tokens}")
    layers = {name.split(".")[3] for name in shapes if name.startswith(f"{encoder}layers.")}
    _expect(len(layers) == config.n_layers, f"has {config.n_layers} layers, and the weights {len(layers)}")
    latent = shapes.get("network.latent.mean.weight", (0,))[0]
    _expect(latent == config.n_latent, f"has a latent of {config.n_latent}, and the weights of {latent}")
    inner = shapes.get(f"{encoder}layers.0.mixer.out_proj.weight", (0, 0))[-1]
    _expect(
        not layers or inner == config.d_inner, f"has layers of inner width {config.d_inner}, and the weights of {inner}"
    )


def _are_numbers(values: Any) -> bool:
    # numbers that JSON lacks are objects of one text
    return isinstance(values, list) and all(
        isinstance(value, int | float) or (isinstance(value, dict) and set(value) == {"float"}) for value in values
    )


def _expect(holds: bool, what: str) -> None:
    if not holds:
        msg = f"config.json {what}."
        raise ValueError(msg)
