"""Architecture of a GeneMamba network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

Fusion = Literal["mean", "sum", "gate", "concat", "alternate"]
Pool = Literal["mean", "max", "cls"]
Flip = Literal["masked", "full"]

_POSITIVE = (
    "n_tokens",
    "d_model",
    "d_state",
    "d_conv",
    "expand",
    "headdim",
    "chunk_size",
    "max_tokens",
    "n_latent",
)
_SWITCHES = ("pre_norm", "shared_aggregator", "tied_head")


@dataclass(frozen=True)
class GeneMambaConfig:
    """Architecture of a GeneMamba network, and nothing else.

    Parameters
    ----------
    n_tokens
        Rows of the embedding table: special tokens and genes, and ``[CLS]`` (the last row) if it is pooled.
    d_model
        Width of the hidden states.
    n_layers
        Bidirectional layers; 0 for none, a control whose hidden states are normed embeddings.
    d_state
        Size of the state of the recurrence, per channel.
    d_conv
        Width of the causal convolution.
    expand
        Inner width of a layer relative to ``d_model``.
    headdim
        Channels that share one decay; divides ``expand * d_model``.
    chunk_size
        Tokens of a chunk of the scan; changes speed, not results.
    fusion
        How the directions are joined: ``"mean"``, ``"sum"``, ``"gate"`` or ``"concat"``; or ``"alternate"``, layers that
        take turns in direction, for half the work.
    pre_norm
        Normalise the input of each layer. Published weights were trained without it.
    shared_aggregator
        One matrix of ``"gate"`` or ``"concat"`` for all layers, as in the published weights.
    tied_head
        The head over the vocabulary uses the embedding table. That of published weights is a table of its own.
    flip
        ``"masked"`` reverses the tokens of each cell. ``"full"`` fills each cell up to ``max_tokens`` with ``[PAD]`` and
        reads those as tokens, as the public code does: for parity only, since embeddings then depend on the padding.
    pooling
        Poolings of a cell's hidden states, joined end to end: any of ``"mean"``, ``"max"``, ``"cls"``.
    max_tokens
        Tokens kept per cell.
    n_latent
        Size of the latent.
    """

    n_tokens: int
    d_model: int = 128
    n_layers: int = 2
    d_state: int = 64
    d_conv: int = 4
    expand: int = 2
    headdim: int = 64
    chunk_size: int = 64
    fusion: Fusion = "mean"
    pre_norm: bool = True
    shared_aggregator: bool = False
    tied_head: bool = True
    flip: Flip = "masked"
    pooling: tuple[str, ...] = ("mean", "max")
    max_tokens: int = 512
    n_latent: int = 32

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            _check_at_least(1, name, getattr(self, name))
        _check_at_least(0, "n_layers", self.n_layers)
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                msg = f"{name} must be True or False, got {getattr(self, name)!r}."
                raise ValueError(msg)
        if self.d_inner % self.headdim:
            msg = f"headdim must divide expand * d_model: {self.headdim} does not divide {self.d_inner}."
            raise ValueError(msg)
        if self.fusion not in get_args(Fusion):
            msg = f"Unknown fusion {self.fusion!r}; choose one of {list(get_args(Fusion))}."
            raise ValueError(msg)
        if self.flip not in get_args(Flip):
            msg = f"Unknown flip {self.flip!r}; choose one of {list(get_args(Flip))}."
            raise ValueError(msg)
        # JSON has no tuples
        object.__setattr__(self, "pooling", _checked_pooling(self.pooling))

    @property
    def d_inner(self) -> int:
        """Inner width of a layer."""
        return self.expand * self.d_model

    @property
    def n_heads(self) -> int:
        """Heads of the scan."""
        return self.d_inner // self.headdim

    @property
    def use_cls(self) -> bool:
        """Whether ``[CLS]``, the last row of the embedding table, is put before each cell."""
        return "cls" in self.pooling

    @property
    def flops_per_token(self) -> float:
        """Floating point operations that the layers need for a token, forward, both directions; a multiplication and an addition are two."""
        projections = self.d_model * (2 * self.d_inner + 2 * self.d_state + self.n_heads) + self.d_inner * self.d_model
        convolution = self.d_conv * (self.d_inner + 2 * self.d_state)
        # the state's decay and update, and reading it
        scan = 3 * self.d_state * self.d_inner
        directions = 1 if self.fusion == "alternate" else 2
        return 2.0 * self.n_layers * (projections + directions * (convolution + scan))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON can hold them."""
        return {**asdict(self), "pooling": list(self.pooling)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GeneMambaConfig:
        """Read what :meth:`to_dict` wrote; keys that are left out keep their defaults.

        Raises
        ------
        ValueError
            If there are unknown keys, or no ``n_tokens``.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            msg = f"Unknown keys of GeneMambaConfig: {', '.join(map(str, unknown))}."
            raise ValueError(msg)
        if "n_tokens" not in values:
            msg = "GeneMambaConfig needs n_tokens, the rows of the embedding table."
            raise ValueError(msg)
        return cls(**values)

    def to_json(self) -> str:
        """JSON text of :meth:`to_dict`."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> GeneMambaConfig:
        """Read what :meth:`to_json` wrote."""
        values = json.loads(text)
        if not isinstance(values, dict):
            msg = f"A GeneMambaConfig is a JSON object, got {type(values).__name__}."
            raise ValueError(msg)
        return cls.from_dict(values)


def _check_at_least(least: int, name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        msg = f"{name} must be a {'positive integer' if least else 'whole number from 0 on'}, got {value!r}."
        raise ValueError(msg)


def _checked_pooling(pooling: object) -> tuple[str, ...]:
    allowed = list(get_args(Pool))
    if isinstance(pooling, str) or not isinstance(pooling, list | tuple) or not pooling:
        msg = f"pooling must be a non-empty tuple of names out of {allowed}, got {pooling!r}."
        raise ValueError(msg)
    unknown = [name for name in pooling if name not in allowed]
    if unknown:
        msg = f"Unknown pooling {unknown}; choose any of {allowed}."
        raise ValueError(msg)
    if len(set(pooling)) < len(pooling):
        msg = f"pooling names each way once, got {pooling!r}."
        raise ValueError(msg)
    return tuple(pooling)
