"""Our model, and the controls that show what its parts are worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ._base import HIDDEN, Method, Output
from ._tuning import tuned_predictions

if TYPE_CHECKING:
    from ._base import Task

_CODE = ("model", "nn", "tokens", "train")


class GeneMamba(Method):
    """GeneMambaModel with its defaults, on all genes, with the query's labels hidden.

    Parameters
    ----------
    name
        Name in tables.
    model, train
        Arguments of :class:`~scgenemamba.GeneMambaModel` and its ``train`` that replace the defaults, for ablations.
    """

    name = "scGeneMamba"
    label_free = label_aware = annotates = transductive = ours = True
    reads = ("preset", "max_epochs", "quick")
    seconds_per_1000_cells = 250.0

    def __init__(
        self, name: str | None = None, *, model: dict[str, Any] | None = None, train: dict[str, Any] | None = None
    ) -> None:
        self.name = name or type(self).name
        self.model_options = dict(model or {})
        self.train_options = dict(train or {})

    def options(self) -> dict[str, Any]:
        """Arguments that replace the defaults."""
        return {"model": self.model_options, "train": self.train_options}

    def sources(self) -> list[Path]:
        """All code that the model is made of, as its version does not change with every change."""
        package = Path(__file__).parents[2]
        return [*super().sources(), *sorted(path for part in _CODE for path in (package / part).rglob("*.py"))]

    def run(self, task: Task) -> Output:
        """Latent mean, and with labels calibrated probabilities, prediction sets and novelty score."""
        model = self.make(task)
        options: dict[str, Any] = {"enable_progress_bar": False, **self.train_options}
        if "max_epochs" not in options:
            options["max_epochs"] = task.settings.max_epochs or (2 if task.settings.quick else None)
        model.train(**options)
        embedding = model.get_latent_representation()
        if task.labels is None:
            return Output(embedding, details={"epochs": _epochs(model)})
        query = np.flatnonzero(task.query)
        probabilities = model.predict(indices=query, soft=True)
        sets = model.predict_sets(indices=query, coverage=0.9) if hasattr(model, "predict_sets") else None
        return Output(
            embedding=embedding,
            probabilities=task.table(probabilities.to_numpy(), probabilities.columns),
            sets=None if sets is None else task.table(sets.to_numpy(), sets.columns),
            novelty=np.asarray(model.novelty_score(indices=query)) if hasattr(model, "novelty_score") else None,
            details={"epochs": _epochs(model)},
        )

    def make(self, task: Task) -> Any:
        """Untrained model of all cells."""
        import scvi

        from scgenemamba.model import GeneMambaModel

        scvi.settings.seed = task.seed
        adata = task.cells.counts()
        if task.labels is not None:
            adata.obs["label"] = pd.Categorical(list(task.all_labels))
        GeneMambaModel.setup_anndata(
            adata,
            batch_key="batch",
            labels_key=None if task.labels is None else "label",
            unlabeled_category=HIDDEN,
            gene_key="gene",
        )
        return GeneMambaModel(adata, **{"preset": task.settings.preset, **self.model_options})


class WithoutBackbone(GeneMamba):
    """Our model without layers: a bag of genes, trained the same way."""

    name = "without backbone"
    control = True
    ours = False
    seconds_per_1000_cells = 120.0

    def __init__(self) -> None:
        super().__init__(model={"n_layers": 0})


class RandomWeights(GeneMamba):
    """Hidden states of our model as it was initialised, and logistic regression on them."""

    name = "random weights"
    control = True
    ours = label_aware = False
    seconds_per_1000_cells = 8.0

    def run(self, task: Task) -> Output:
        """Pooled hidden states."""
        import torch
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        model = self.make(task)
        model.is_trained_ = True
        model.to_device("cuda" if torch.cuda.is_available() else "cpu")
        embedding = model.get_latent_representation(representation="pooled")
        if task.labels is None:
            return Output(embedding)
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        return tuned_predictions(task, classifier, {"logisticregression__C": [0.01, 0.1, 1.0, 10.0]}, embedding)


def _epochs(model: Any) -> int:
    return len(next(iter(model.history.values()))) if model.history else 0
