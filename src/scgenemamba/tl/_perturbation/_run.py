"""Running through cells and their perturbations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ._controls import Controls, beside
from ._exact import ExactReader
from ._screen import Screener

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from anndata import AnnData

    from scgenemamba.model import GeneMambaModel

    from ._edits import Kind
    from ._readout import Readout, States
    from ._request import NamedChange

    Effects = dict[str, npt.NDArray[np.float64]]


class CellEffects(NamedTuple):
    """Effects of the perturbations of a cell.

    Attributes
    ----------
    columns
        Tokens of the genes, or numbers of the perturbations, ``(m,)``.
    effects, controls
        By name, ``(m,)`` each.
    exact
        Whether they were encoded, bool ``(m,)``.
    """

    columns: npt.NDArray[np.int64]
    effects: Effects
    controls: Effects
    exact: npt.NDArray[np.bool_]


class _Rescored(NamedTuple):
    """A screened cell: predictions, which genes count as exact, and what was read of those that were encoded."""

    cell: int
    effects: Effects
    exact: npt.NDArray[np.bool_]
    encoded: npt.NDArray[np.int64]
    after: States | None


class Run:
    """Perturbs cells of a model.

    Parameters
    ----------
    model, readout, kind
        What is perturbed how, and what is read.
    random_state
        Seed of controls and checked cells.
    batch_size
        Sequences at a time.

    Attributes
    ----------
    rankings
        Tokens of each cell.
    befores
        Readings of each cell as it is.
    results
        Effects by cell.
    fidelity
        Of the checked cells, if there are any.
    """

    def __init__(
        self, model: GeneMambaModel, readout: Readout, kind: Kind, *, random_state: int, batch_size: int | None
    ) -> None:
        self.model, self.readout, self.kind = model, readout, kind
        self.random_state, self.batch_size = random_state, batch_size
        self.width = model.module.config.max_tokens
        self.rankings: list[npt.NDArray[np.int32]] = []
        self.befores: list[States] = []
        self.results: dict[int, CellEffects] = {}
        self.fidelity: pd.DataFrame | None = None
        self.n_passes = 0.0
        self._exact = ExactReader(model.module, readout, batch_size)

    @property
    def n_forwards(self) -> float:
        """Passes over a cell that were made, those of the checks left out."""
        return self.n_passes + self._exact.n_read

    @property
    def n_exact(self) -> int:
        """Passes that encoding every change of a single gene takes."""
        return sum(self._n_changed(ranking) for ranking in self.rankings)

    def read(self, adata: AnnData | None, rows: npt.NDArray[np.int64]) -> None:
        """Read the cells as they are."""
        for encoded, batch in self.model._encoded(adata, rows, self.batch_size, None):
            self.befores += self.readout.of(encoded).cpu().cells()
            tokens, bounds = batch["tokens"].cpu().numpy(), batch["cu_seqlens"].tolist()
            self.rankings += [tokens[start:end] for start, end in zip(bounds, bounds[1:], strict=False)]

    def encode(self, changes: Sequence[NamedChange], n_controls: int) -> None:
        """Encode given perturbations, and their controls."""
        controls = Controls(self.rankings, self.model.module.config.n_tokens, self.random_state)
        for cell, ranking in self._cells():
            asked = [i for i, change in enumerate(changes) if self._applies(ranking, change.tokens)]
            drawn = [controls.draw(cell, ranking, changes[i].tokens, n_controls) for i in asked]
            sets = [changes[i].tokens for i in asked] + [genes for some in drawn for genes in some]
            if not asked:
                continue
            effects = self._encoded(cell, ranking, sets)
            ends = len(asked) + np.cumsum([len(some) for some in drawn])
            beside_it = {
                name: np.array([_median(part) for part in np.split(values[len(asked) :], ends[:-1] - len(asked))])
                for name, values in effects.items()
            }
            own = {name: values[: len(asked)] for name, values in effects.items()}
            self.results[cell] = CellEffects(np.array(asked), own, beside_it, np.ones(len(asked), dtype=bool))

    def encode_all(self) -> None:
        """Encode every change of a single gene."""
        for cell, ranking in self._cells():
            self._keep(cell, ranking, self._of_all(cell, ranking), np.ones(len(ranking), dtype=bool))

    def screen(self, window: int, n_rescored: int, n_checked: int) -> None:
        """Predict every change of a single gene, and encode those with the largest effects."""
        screener = Screener(self.model.module, self.readout, self.kind, window)
        filled = [cell for cell, ranking in enumerate(self.rankings) if len(ranking)]
        checked = set(np.random.default_rng(self.random_state).permutation(filled)[:n_checked].tolist())
        rows, launched = [], list[_Rescored]()
        for cells in self._groups(screener.tokens_at_a_time):
            befores = [self.befores[cell] for cell in cells]
            afters = screener([self.rankings[cell] for cell in cells], befores)
            # the device still reads genes of the group before: only now is it waited for
            predicted = [self.readout.effects(*pair) for pair in zip(befores, afters, strict=True)]
            self._finish(launched)
            launched = []
            for cell, effects in zip(cells, predicted, strict=True):
                ranking = self.rankings[cell]
                beyond = screener.beyond(ranking)
                if cell in checked:
                    read = self._exact.n_read
                    whole = self._of_all(cell, ranking)
                    self._exact.n_read = read
                    rows.append({"cell": cell, **_fidelity(effects, whole, beyond, self.readout.names[-1], n_rescored)})
                launched.append(self._rescore(cell, effects, beyond, n_rescored))
        self._finish(launched)
        self.n_passes += screener.n_passes
        if rows:
            self.fidelity = pd.DataFrame(rows)

    def _groups(self, most: int) -> Iterator[list[int]]:
        """Cells of at most so many tokens with their padding, or a single one."""
        group: list[int] = []
        longest = 0
        for cell, ranking in self._cells():
            longest = max(longest, min(len(ranking), self.width))
            if group and longest * (len(group) + 1) > most:
                yield group
                group, longest = [], min(len(ranking), self.width)
            group.append(cell)
        if group:
            yield group

    def _rescore(self, cell: int, effects: Effects, beyond: npt.NDArray[np.bool_], n_rescored: int) -> _Rescored:
        """Encode the largest effects, and those that are not predicted, without waiting for the result."""
        ranking = self.rankings[cell]
        exact = beyond.copy()
        sizes = np.where(beyond, np.inf, np.abs(effects[self.readout.names[-1]]))
        exact[np.argsort(-sizes, kind="stable")[: max(n_rescored, int(beyond.sum()))]] = True
        # what is not read changes nothing, which is exact
        exact[self._n_changed(ranking) :] = True
        encoded = np.flatnonzero(exact[: self._n_changed(ranking)])
        after = self._exact.changed(ranking, [*ranking[encoded][:, None]], self.kind) if len(encoded) else None
        return _Rescored(cell, effects, exact, encoded, after)

    def _finish(self, launched: Sequence[_Rescored]) -> None:
        """Put exact effects in the place of predictions."""
        for cell, effects, exact, encoded, after in launched:
            if after is not None:
                for name, values in self.readout.effects(self.befores[cell], after).items():
                    effects[name][encoded] = values
            self._keep(cell, self.rankings[cell], effects, exact)

    def _of_all(self, cell: int, ranking: npt.NDArray[np.int32]) -> Effects:
        n = self._n_changed(ranking)
        some = self._encoded(cell, ranking, [*ranking[:n, None]])
        return {name: np.concatenate([values, np.zeros(len(ranking) - n)]) for name, values in some.items()}

    def _encoded(self, cell: int, ranking: npt.NDArray[np.int32], sets: list[npt.NDArray[np.int32]]) -> Effects:
        return self.readout.effects(self.befores[cell], self._exact.changed(ranking, sets, self.kind))

    def _n_changed(self, ranking: npt.NDArray[np.int32]) -> int:
        """Genes whose change the model sees: taken away, those that it does not read change nothing."""
        gone = self.kind == "delete" or (self.kind == "inhibit" and len(ranking) > self.width)
        return min(len(ranking), self.width) if gone else len(ranking)

    def _keep(self, cell: int, ranking: npt.NDArray[np.int32], effects: Effects, exact: npt.NDArray[np.bool_]) -> None:
        controls = {name: beside(values) for name, values in effects.items()}
        self.results[cell] = CellEffects(ranking.astype(np.int64), effects, controls, exact)

    def _applies(self, ranking: npt.NDArray[np.int32], change: npt.NDArray[np.int32]) -> bool:
        """Whether a cell can be changed so: what it lacks can only be added."""
        return self.kind == "overexpress" or bool(np.isin(change, ranking).all())

    def _cells(self) -> Iterator[tuple[int, npt.NDArray[np.int32]]]:
        filled = [(cell, ranking) for cell, ranking in enumerate(self.rankings) if len(ranking)]
        return iter(tqdm(filled, desc="Perturbing", unit=" cells", leave=False, delay=5))


def _median(values: npt.NDArray[np.float64]) -> float:
    return float(np.median(values)) if len(values) else np.nan


def _fidelity(
    predicted: Effects, exact: Effects, beyond: npt.NDArray[np.bool_], name: str, n_rescored: int
) -> dict[str, Any]:
    """How well the predictions find the largest effects; where there are none, the exact ones stand in for them."""
    from scipy.stats import spearmanr

    truth = np.abs(exact[name])
    guess = np.where(beyond, truth, np.abs(predicted[name]))
    k = min(n_rescored, len(truth))
    found = np.isin(np.argsort(-guess, kind="stable")[:k], np.argsort(-truth, kind="stable")[:k])
    told = len(truth) > 1 and np.ptp(guess) > 0 and np.ptp(truth) > 0
    return {
        "n_genes": len(truth),
        "recall": float(found.mean()) if k else np.nan,
        "spearman": float(spearmanr(guess, truth).statistic) if told else np.nan,
    }
