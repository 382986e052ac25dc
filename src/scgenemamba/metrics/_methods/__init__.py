"""The methods under comparison; to add one, write a subclass of :class:`Method` and list it here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._base import HIDDEN, Method, Output, Settings, Task
from ._classifiers import CellTypist, LinearSvm, Logistic, Majority, Neighbors, Perceptron, XGBoost
from ._genemamba import GeneMamba, RandomWeights, WithoutBackbone
from ._linear import ComBat, Harmony, Pca, VariableGenes
from ._scvi import Scanvi, ScanviMapped, Scvi

if TYPE_CHECKING:
    from collections.abc import Sequence

#: All methods, in the order in which they run: quick ones first.
METHODS: tuple[type[Method], ...] = (
    Pca,
    VariableGenes,
    ComBat,
    Harmony,
    Majority,
    Neighbors,
    LinearSvm,
    Logistic,
    CellTypist,
    Perceptron,
    XGBoost,
    RandomWeights,
    WithoutBackbone,
    Scvi,
    Scanvi,
    ScanviMapped,
    GeneMamba,
)


def method_names() -> list[str]:
    """Names of all methods."""
    return [method.name for method in METHODS]


def resolve_methods(asked: Sequence[str | Method] | None) -> list[Method]:
    """Methods by name or as they are; case and hyphens do not matter.

    Raises
    ------
    ValueError
        If a name is not known, or two methods have the same.
    """
    known = {_plain(method.name): method for method in METHODS}
    methods = []
    for item in method_names() if asked is None else asked:
        if isinstance(item, str) and _plain(item) not in known:
            msg = f"Unknown method {item!r}; choose from {', '.join(method_names())}."
            raise ValueError(msg)
        methods.append(known[_plain(item)]() if isinstance(item, str) else item)
    names = [method.name for method in methods]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        msg = f"More than one method is called {', '.join(repeated)}."
        raise ValueError(msg)
    return methods


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


__all__ = ["HIDDEN", "METHODS", "Method", "Output", "Settings", "Task", "method_names", "resolve_methods"]
