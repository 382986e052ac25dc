from __future__ import annotations

import json

import pytest

from scgenemamba.nn import GeneMambaConfig


def test_json_round_trip():
    config = GeneMambaConfig(n_tokens=30, d_model=64, fusion="gate", pooling=("cls", "max"), pre_norm=False)
    assert GeneMambaConfig.from_json(config.to_json()) == config
    assert GeneMambaConfig.from_dict(config.to_dict()) == config
    assert json.loads(config.to_json())["pooling"] == ["cls", "max"]
    assert isinstance(GeneMambaConfig.from_json(config.to_json()).pooling, tuple)


def test_derived_sizes():
    config = GeneMambaConfig(n_tokens=30, d_model=96, expand=2, headdim=32)
    assert (config.d_inner, config.n_heads, config.use_cls) == (192, 6, False)
    assert GeneMambaConfig(n_tokens=30, pooling=("mean", "cls")).use_cls


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"d_model": 100}, "64 does not divide 200"),
        ({"n_layers": -1}, "n_layers must be a whole number from 0 on, got -1"),
        ({"d_state": 1.5}, "d_state must be a positive integer, got 1.5"),
        ({"max_tokens": True}, "max_tokens must be a positive integer"),
        (
            {"fusion": "product"},
            r"Unknown fusion 'product'; choose one of \['mean', 'sum', 'gate', 'concat', 'alternate'\]",
        ),
        ({"pooling": ("mean", "median")}, r"Unknown pooling \['median'\]; choose any of \['mean', 'max', 'cls'\]"),
        ({"pooling": ()}, "non-empty tuple"),
        ({"pooling": "mean"}, "non-empty tuple"),
        ({"pooling": ("max", "max")}, "names each way once"),
        ({"pre_norm": 1}, "pre_norm must be True or False"),
    ],
)
def test_wrong_values_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        GeneMambaConfig(n_tokens=30, **arguments)


def test_unknown_and_missing_keys_are_named():
    with pytest.raises(ValueError, match="Unknown keys of GeneMambaConfig: depth, width"):
        GeneMambaConfig.from_dict({"n_tokens": 3, "width": 1, "depth": 2})
    with pytest.raises(ValueError, match="needs n_tokens"):
        GeneMambaConfig.from_json("{}")
    with pytest.raises(ValueError, match="JSON object, got list"):
        GeneMambaConfig.from_json("[1]")
