"""Scores of what a run gave; the only place that sees the true labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ._annotation import annotation_scores, per_class_scores
from ._confidence import novelty_auroc, set_coverage
from ._integration import _NEIGHBORS, integration_scores

if TYPE_CHECKING:
    from ._cells import Cells
    from ._methods import Output
    from ._splits import Split


@dataclass(frozen=True)
class Truth:
    """True labels of the cells of a benchmark.

    Parameters
    ----------
    cells
        The cells.
    labels
        Label of each, shape ``(n_cells,)``.
    """

    cells: Cells
    labels: np.ndarray

    def integration(self, output: Output, split: Split | None) -> list[dict[str, Any]]:
        """Scores of an embedding on all cells, and with a split on the held-out ones."""
        rows = [{"cells": "all", **self._embedding_scores(output, None)}]
        if split is not None:
            rows.append({"cells": "held-out", **self._embedding_scores(output, split.query)})
        return rows

    def annotation(self, output: Output, split: Split) -> dict[str, Any]:
        """Scores of predictions, all together under ``"scores"`` and by type under ``"per_class"``."""
        true, trained_on = self.labels[split.query], np.unique(self.labels[~split.query])
        known = np.isin(true, trained_on)
        scores: dict[str, Any] = annotation_scores(true, output.predicted, output.probabilities, trained_on=trained_on)
        table = per_class_scores(true, output.predicted, trained_on=trained_on)
        if output.sets is not None:
            coverage = set_coverage(true[known], output.sets.iloc[np.flatnonzero(known)])
            scores |= {"coverage": coverage.coverage, "mean_set_size": coverage.mean_size}
            table = table.join(coverage.per_class[["coverage"]])
        if not known.all():
            scores["novelty_auroc"] = novelty_auroc(~known, output.novelty_score)
        per_class = [{"label": str(label), **dict(row)} for label, row in table.iterrows()]
        return {"scores": scores, "per_class": per_class}

    def _embedding_scores(self, output: Output, which: np.ndarray | None) -> dict[str, Any]:
        from anndata import AnnData

        rows = np.arange(self.cells.n_obs) if which is None else np.flatnonzero(which)
        labels, batch = self.labels[rows], self.cells.batch[rows]
        if len(rows) <= _NEIGHBORS or len(np.unique(labels)) < 2:
            return {"note": f"not scored: {len(rows)} cells of {len(np.unique(labels))} types"}
        obs = pd.DataFrame({"label": labels, "batch": batch}, index=self.cells.names[rows])
        adata = AnnData(obs=obs, obsm={"embedding": output.embedding[rows], "before": self._components[rows]})  # type: ignore[index]
        several = len(np.unique(batch)) > 1
        scores = integration_scores(
            adata, ["embedding"], "batch" if several else None, "label", unintegrated_key="before" if several else None
        )
        note = {} if several else {"note": "one batch, so conservation only"}
        return {
            **dict(zip(scores.columns, scores.to_numpy()[0].tolist(), strict=True)),
            **note,
            "n_cells": len(rows),
        }

    @cached_property
    def _components(self) -> np.ndarray:
        """Principal components of the cells as they are."""
        import scanpy as sc

        adata = self.cells.log_normalised(genes=self.cells.variable_genes(2000))
        sc.pp.pca(adata, n_comps=min(50, adata.n_obs - 1, adata.n_vars - 1))
        return np.asarray(adata.obsm["X_pca"])
