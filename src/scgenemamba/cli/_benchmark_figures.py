"""The figures of a benchmark, drawn from its folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scgenemamba import pl
from scgenemamba.metrics import read_run

if TYPE_CHECKING:
    from pathlib import Path

    from scgenemamba.metrics import BenchmarkResult, Output

# What ours is drawn beside
_BESIDE = ("logistic regression", "scANVI")


def draw_benchmark(result: BenchmarkResult, out: Path) -> list[Path]:
    """Draw the first seed: embeddings by method, and for each split confusion, calibration, coverage and F1 by type.

    Parameters
    ----------
    result
        Scores, which name the runs.
    out
        Folder that they were written to; the figures go there as well.

    Returns
    -------
    Files that were written.
    """
    with np.load(out / "embeddings.npz", allow_pickle=False) as kept:
        arrays = {name: kept[name] for name in kept.files}
    files = []
    with _own_figures() as save:
        for name, title in (("", "embeddings"), (" (labels)", "embeddings_labels")):
            if draw_embeddings(arrays, result, name):
                files.append(save(out / f"{title}.png"))
        for (split, fold), outputs in _outputs(result, out).items():
            labels = pd.Series(arrays["label"], index=arrays["row"])
            place = "_".join(["", *f"{split} {fold}".split()])
            for kind, draw in _ANNOTATION.items():
                if draw(labels, outputs):
                    files.append(save(out / f"{kind}{place}.png"))
    return files


def draw_embeddings(arrays: dict[str, np.ndarray], result: BenchmarkResult, ending: str) -> bool:
    """Embeddings of the methods that are no controls, coloured by batch and type; False if there are none."""
    from anndata import AnnData

    rows = result.integration
    methods: list[str] = [] if rows.empty else rows.loc[~rows["control"], "method"].unique().tolist()
    found = {method: arrays[method + ending] for method in methods if method + ending in arrays}
    if not found:
        return False
    obs = pd.DataFrame({name: pd.Categorical(arrays[name]) for name in ("batch", "label")}, index=arrays["row"])
    adata = AnnData(obs=obs, obsm=found)
    pl.embeddings(adata, list(found), ["batch", "label"])
    return True


def _confusion(labels: pd.Series, outputs: dict[str, Output]) -> bool:
    ours = next(iter(outputs.values()))
    pl.confusion_matrix(_true(labels, ours), list(ours.predicted))
    return True


def _calibration(labels: pd.Series, outputs: dict[str, Output]) -> bool:
    true = _true(labels, next(iter(outputs.values())))
    tables = {name: output.probabilities for name, output in outputs.items() if output.probabilities is not None}
    # types that nobody was shown are scored by novelty
    known = np.flatnonzero(np.isin(true, np.concatenate([np.asarray(table.columns) for table in tables.values()])))
    pl.calibration_curve([true[i] for i in known], {name: table.iloc[known] for name, table in tables.items()})
    return True


def _coverage(labels: pd.Series, outputs: dict[str, Output]) -> bool:
    ours = next(iter(outputs.values()))
    if ours.sets is None:
        return False
    pl.coverage_by_class(_true(labels, ours), ours.sets)
    return True


def _per_class(labels: pd.Series, outputs: dict[str, Output]) -> bool:
    true = _true(labels, next(iter(outputs.values())))
    pl.per_class_f1(true, {name: list(output.predicted) for name, output in outputs.items()})
    return True


_ANNOTATION = {"confusion": _confusion, "calibration": _calibration, "coverage": _coverage, "per_class_f1": _per_class}


def _true(labels: pd.Series, output: Output) -> list[str]:
    """True labels of the query cells of a run."""
    if output.probabilities is None:
        msg = "The method made no predictions."
        raise ValueError(msg)
    return labels.loc[output.probabilities.index].tolist()


def _outputs(result: BenchmarkResult, out: Path) -> dict[tuple[str, str], dict[str, Output]]:
    """What ours, and those beside it, gave in the first run of each split; splits that ours did not run are left out."""
    rows = result.annotation
    if rows.empty:
        return {}
    found: dict[tuple[str, str], dict[str, Output]] = {}
    good = rows[rows["message"].eq("") & rows["seed"].eq(0)]
    for (split, fold), part in good.groupby(["split", "fold"], sort=False):
        if part["ours"].any():
            wanted = [*part.loc[part["ours"], "method"], *_BESIDE]
            runs = part.drop_duplicates("method").set_index("method")["run"]
            found[str(split), str(fold)] = {method: read_run(out, runs[method]) for method in wanted if method in runs}
    return found


@contextmanager
def _own_figures() -> Iterator[Any]:
    """Takes the last figure into a file, and leaves the user's plotting back-end as it was."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    def save(file: Path) -> Path:
        plt.gcf().savefig(file, dpi=120, bbox_inches="tight")
        plt.close(plt.gcf())
        return file

    before = mpl.get_backend()
    plt.switch_backend("agg")
    try:
        yield save
    finally:
        plt.switch_backend(before)
