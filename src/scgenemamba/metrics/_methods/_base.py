"""What a method is given, and what it gives back."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from scgenemamba.metrics._cells import Cells

_HERE = Path(__file__).parent

#: Stands for labels that a method must not see.
HIDDEN = "__hidden__"


@dataclass(frozen=True)
class Settings:
    """What all methods of a benchmark share.

    Parameters
    ----------
    preset, max_epochs
        Size of our model and its epochs (``None``: its own choice).
    n_top_genes
        Variable genes of the methods that do not read all.
    quick
        Few epochs everywhere, to try things out.
    """

    preset: str = "small"
    max_epochs: int | None = None
    n_top_genes: int = 2000
    quick: bool = False

    def epochs(self, full: int) -> int:
        """Epochs of a rival that takes ``full``."""
        return min(full, 2) if self.quick else full


@dataclass(frozen=True)
class Task:
    """What a method is given.

    Parameters
    ----------
    cells
        Expression and batches.
    settings, seed
        How to train.
    labels
        Label of each cell, ``"__hidden__"`` where it must be predicted, shape ``(n_cells,)``; ``None`` where a method has
        to embed without any.
    """

    cells: Cells
    settings: Settings
    seed: int
    labels: np.ndarray | None = None

    @cached_property
    def shown(self) -> np.ndarray:
        """Cells whose label is shown, bool ``(n_cells,)``."""
        if self.labels is None:
            return np.zeros(self.cells.n_obs, bool)
        return self.labels != HIDDEN

    @property
    def query(self) -> np.ndarray:
        """Cells whose label is to be predicted, bool ``(n_cells,)``."""
        return ~self.shown

    @property
    def all_labels(self) -> np.ndarray:
        """Label of each cell or ``"__hidden__"``, where there must be labels, shape ``(n_cells,)``."""
        if self.labels is None:
            msg = "This task has no labels."
            raise ValueError(msg)
        return self.labels

    @property
    def shown_labels(self) -> np.ndarray:
        """Labels that are shown, shape ``(n_shown,)``."""
        return self.all_labels[self.shown].astype(str)

    def table(self, values: np.ndarray, labels: Any) -> pd.DataFrame:
        """Table of query cells by labels."""
        return pd.DataFrame(np.asarray(values), index=self.cells.names[self.query], columns=np.asarray(labels, str))


@dataclass(frozen=True)
class Output:
    """What a method gives back.

    Parameters
    ----------
    embedding
        Of all cells, float32 ``(n_cells, any)``.
    probabilities
        Table of query cells by labels.
    sets
        Prediction sets of the query cells at 90 % coverage, a boolean table of the same form.
    novelty
        Larger means more likely of a new type, ``(n_query,)``; by default one minus the largest probability.
    details
        Worth knowing, such as what was chosen on validation cells.
    seconds_before
        Time of work that was done for another run and used again.
    """

    embedding: np.ndarray | None = None
    probabilities: pd.DataFrame | None = None
    sets: pd.DataFrame | None = None
    novelty: np.ndarray | None = None
    details: dict[str, Any] = field(default_factory=dict)
    seconds_before: float = 0.0

    @property
    def predicted(self) -> np.ndarray:
        """Most probable label of each query cell, shape ``(n_query,)``."""
        if self.probabilities is None:
            msg = "The method made no predictions."
            raise ValueError(msg)
        return np.asarray(self.probabilities.columns)[self.probabilities.to_numpy().argmax(1)].astype(str)

    @property
    def novelty_score(self) -> np.ndarray:
        """The method's own novelty score, or one minus the largest probability."""
        if self.novelty is not None:
            return self.novelty
        return 1 - self.probabilities.to_numpy().max(1) if self.probabilities is not None else np.zeros(0)


class Method(ABC):
    """A method under comparison. To add one: a subclass with a :meth:`run`, listed in ``METHODS``.

    The class attributes say what it can do and what it may see.
    """

    #: Name in tables, and of the command line.
    name: str
    #: Embeds without labels, embeds with labels, predicts labels.
    label_free = label_aware = annotates = False
    #: Trains on the expression of the query cells too, their labels hidden.
    transductive = False
    #: Gives the same for each seed, and is run once.
    deterministic = False
    #: Not a rival, but shows what a part of ours is worth.
    control = False
    #: Ours: it must not fail.
    ours = False
    #: Packages that it needs, by import name, and how to install each that the base installation lacks.
    packages: dict[str, str] = {}
    #: Settings that its results depend on.
    reads: tuple[str, ...] = ("n_top_genes", "quick")
    #: Rough time on two CPU cores, for the estimate before anything is measured.
    seconds_per_1000_cells = 1.0

    @abstractmethod
    def run(self, task: Task) -> Output:
        """Embed the cells, and where labels are shown, predict the hidden ones."""

    def check(self) -> None:
        """Raise an ImportError that says how to install what is missing."""
        for package, command in self.packages.items():
            if importlib.util.find_spec(package) is None:
                msg = f"{package} is not installed: {command}"
                raise ImportError(msg)

    def options(self) -> dict[str, Any]:
        """Settings of this method alone; results with other ones are not reused."""
        return {}

    def sources(self) -> list[Path]:
        """Source files beyond that of the class; results of other code are not reused."""
        return [_HERE.parent / "_cells.py", _HERE / "_tuning.py"]

    def identity(self, settings: Settings) -> dict[str, Any]:
        """All that a result of this method depends on, apart from data, labels and seed."""
        return {
            "method": self.name,
            "options": self.options(),
            "settings": {name: value for name, value in asdict(settings).items() if name in self.reads},
            "versions": {package: _version(package) for package in sorted({"scvi-tools", "scanpy", *self.packages})},
            "code": [_source(type(self)), code_hash(self.sources())],
        }


def code_hash(paths: list[Path]) -> str:
    """Hash of source files."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def _source(method: type) -> str:
    """The module of a class, as text; or the class alone, where it comes from a notebook."""
    try:
        return code_hash([Path(inspect.getfile(method))])
    except (OSError, TypeError):
        return method.__qualname__


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
