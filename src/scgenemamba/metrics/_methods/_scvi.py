"""The variational models of scvi-tools."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ._base import HIDDEN, Method, Output

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

    from ._base import Task

_ARCHITECTURE: dict[str, Any] = {"n_layers": 2, "n_latent": 30, "gene_likelihood": "nb"}
# what scvi-tools recommends where a query is mapped later
_FOR_MAPPING = {"use_layer_norm": "both", "use_batch_norm": "none", "encode_covariates": True, "dropout_rate": 0.2}
_EPOCHS = 200
_SCANVI_EPOCHS = 20
_QUERY_EPOCHS = 100
_BATCH_SIZES = (128, 120, 113)


def _train_scvi(adata: AnnData, task: Task, **architecture: Any) -> Any:
    """ScVI for 200 epochs, or fewer by its own rule for many cells."""
    import scvi
    from scvi.model._utils import get_max_epochs_heuristic

    def make() -> Any:
        scvi.settings.seed = task.seed
        scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
        return scvi.model.SCVI(adata, **_ARCHITECTURE, **architecture)

    epochs = min(_EPOCHS, get_max_epochs_heuristic(adata.n_obs))
    return _trained(make, max_epochs=task.settings.epochs(epochs))


def _train_scanvi(base: Any, task: Task) -> Any:
    import scvi

    def make() -> Any:
        scvi.settings.seed = task.seed
        return scvi.model.SCANVI.from_scvi_model(base, unlabeled_category=HIDDEN, labels_key="label")

    return _trained(make, max_epochs=task.settings.epochs(_SCANVI_EPOCHS), n_samples_per_label=100)


def _trained(make: Callable[[], Any], **options: Any) -> Any:
    """Trained model; with fewer cells a batch where batch norm meets a last batch of one cell."""
    for batch_size in _BATCH_SIZES:
        model = make()
        try:
            model.train(batch_size=batch_size, enable_progress_bar=False, **options)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error) or batch_size == _BATCH_SIZES[-1]:
                raise
        else:
            break
    return model


def _base_model(task: Task) -> tuple[Any, float]:
    """ScVI of all cells and the seconds that it took; of each seed it is trained once, as it sees no labels."""
    key = ("scVI", task.seed, task.settings)
    kept = task.cells.kept
    if key not in kept:
        started = time.perf_counter()
        genes = task.cells.variable_genes(task.settings.n_top_genes)
        model = _train_scvi(task.cells.counts(genes=genes), task)
        kept.clear()  # of other seeds
        kept[key] = (model, time.perf_counter() - started)
        return model, 0.0
    return kept[key]


class Scvi(Method):
    """scVI: 2 layers, 30 latent, negative binomial."""

    name = "scVI"
    label_free = True
    seconds_per_1000_cells = 46.0

    def run(self, task: Task) -> Output:
        """Latent mean."""
        model, before = _base_model(task)
        return Output(np.asarray(model.get_latent_representation(), dtype=np.float32), seconds_before=before)


class Scanvi(Method):
    """scANVI from scVI, on all cells, with the query's labels hidden."""

    name = "scANVI"
    label_aware = annotates = transductive = True
    seconds_per_1000_cells = 58.0

    def run(self, task: Task) -> Output:
        """Latent mean and class probabilities."""
        base, before = _base_model(task)
        adata = base.adata
        adata.obs["label"] = pd.Categorical(list(task.all_labels))
        model = _train_scanvi(base, task)
        probabilities = model.predict(indices=np.flatnonzero(task.query), soft=True)
        return Output(
            embedding=np.asarray(model.get_latent_representation(), dtype=np.float32),
            probabilities=task.table(probabilities.to_numpy(), probabilities.columns),
            seconds_before=before,
        )


class ScanviMapped(Method):
    """scANVI of the labelled cells only, then scArches maps the query."""

    name = "scANVI + scArches"
    label_aware = annotates = True
    seconds_per_1000_cells = 70.0

    def run(self, task: Task) -> Output:
        """Latent means of the reference from its own model, of the query from the mapped one."""
        import scvi

        genes = task.cells.variable_genes(task.settings.n_top_genes, task.shown)
        reference, query = task.cells.counts(task.shown, genes), task.cells.counts(task.query, genes)
        reference.obs["label"], query.obs["label"] = pd.Categorical(task.shown_labels), HIDDEN
        model = _train_scanvi(_train_scvi(reference, task, **_FOR_MAPPING), task)

        def make() -> Any:
            scvi.settings.seed = task.seed
            return scvi.model.SCANVI.load_query_data(query.copy(), model)

        # without decay, so that the reference's part stays as it is
        epochs = task.settings.epochs(_QUERY_EPOCHS)
        mapped = _trained(make, max_epochs=epochs, plan_kwargs={"weight_decay": 0.0})
        embedding = np.zeros((task.cells.n_obs, _ARCHITECTURE["n_latent"]), np.float32)
        embedding[task.shown] = model.get_latent_representation()
        embedding[task.query] = mapped.get_latent_representation()
        probabilities = mapped.predict(soft=True)
        return Output(embedding, task.table(probabilities.to_numpy(), probabilities.columns))
