"""Lines of progress, with an estimate of the time that is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._store import Run

# Scores of an embedding take about this long on two CPU cores, for 1,000 cells
_SCORING = 2.0


class Progress:
    """Says which run is at work, how long it took, and how long the others will.

    Times are rough constants of the methods at first, corrected by what runs took here.

    Parameters
    ----------
    runs
        Runs that are to be done.
    n_cells
        Number of cells.
    quick
        Whether training is cut short.
    say
        Takes each line.
    """

    def __init__(self, runs: Sequence[Run], n_cells: int, quick: bool, say: Callable[[str], None]) -> None:
        self.left = list(runs)
        self.n_total = len(runs)
        self.n_done = 0
        self._thousands, self._quick, self._say = n_cells / 1000, quick, say
        self._taken: dict[str, list[float]] = {}
        self._ratios: list[float] = []

    def start(self, n_reused: int) -> None:
        """Announce the work."""
        reused = f" {n_reused} finished before are used again." if n_reused else ""
        if not self.left:
            self._say(f"Nothing to train.{reused}")
            return
        what = "run" if len(self.left) == 1 else "runs"
        self._say(f"{len(self.left)} {what} to do, about {duration(self.remaining())} (a rough estimate).{reused}")

    def done(self, run: Run, seconds: float, message: str = "") -> None:
        """Report a finished run, or a failed one with its message."""
        self.left.remove(run)
        self.n_done += 1
        if message:
            self._say(f"[{self.n_done}/{self.n_total}] {run}: failed: {message}")
            return
        self._taken.setdefault(run.method.name, []).append(seconds)
        self._ratios.append(seconds / self._rough(run))
        left = f"; about {duration(self.remaining())} left" if self.left else ""
        self._say(f"[{self.n_done}/{self.n_total}] {run} ({duration(seconds)}{left})")

    def remaining(self) -> float:
        """Estimated seconds of the runs that are left."""
        factor = float(np.median(self._ratios)) if self._ratios else 1.0
        return sum(
            float(np.mean(self._taken[run.method.name]))
            if run.method.name in self._taken
            else factor * self._rough(run)
            for run in self.left
        )

    def _rough(self, run: Run) -> float:
        training = run.method.seconds_per_1000_cells * (0.05 if self._quick else 1.0)
        embeds = run.method.label_free if run.split is None else run.method.label_aware
        # with labels, held-out cells are scored as well
        scoring = _SCORING * (1.0 if run.split is None else 1.5) if embeds else 0.0
        return (training + scoring) * self._thousands + 1.0


def duration(seconds: float) -> str:
    """Time in words: ``12 s``, ``9 min``, ``2 h 05 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
