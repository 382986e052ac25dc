"""Classifiers on log-normalised variable genes, chosen from the labelled cells alone."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from ._base import Method, Output
from ._tuning import tuned_predictions, validation_cells

if TYPE_CHECKING:
    from ._base import Task


class Classifier(Method):
    """A classifier of scikit-learn's kind."""

    annotates = True
    #: Values that are chosen from, by macro-F1 on validation cells.
    grid: dict[str, list[Any]] = {}

    @abstractmethod
    def estimator(self, task: Task) -> Any:
        """Classifier that is not fitted."""

    def run(self, task: Task) -> Output:
        """Probabilities of the query cells."""
        return tuned_predictions(task, self.estimator(task), dict(self.grid), _features(task))


def _features(task: Task) -> Any:
    """Variable genes of the labelled cells, log-normalised, CSR ``(n_cells, n_top_genes)``."""
    genes = task.cells.variable_genes(task.settings.n_top_genes, task.shown)
    return task.cells.log_normalised(genes=genes).X


class Majority(Classifier):
    """The most frequent label for every cell."""

    name = "majority"
    deterministic = True
    control = True
    seconds_per_1000_cells = 0.1

    def estimator(self, task: Task) -> Any:
        """Shares of the labels as probabilities."""
        from sklearn.dummy import DummyClassifier

        return DummyClassifier(strategy="prior")


class Logistic(Classifier):
    """Logistic regression with an L2 penalty."""

    name = "logistic regression"
    grid = {"C": [0.001, 0.01, 0.1, 1.0, 10.0]}
    seconds_per_1000_cells = 8.0

    def estimator(self, task: Task) -> Any:
        """Multinomial."""
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(max_iter=500)


class Neighbors(Classifier):
    """Nearest neighbours on principal components."""

    name = "kNN on PCA"
    grid = {"kneighborsclassifier__n_neighbors": [5, 15, 30]}
    seconds_per_1000_cells = 2.0

    def estimator(self, task: Task) -> Any:
        """50 components of the labelled cells."""
        from sklearn.decomposition import PCA
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.pipeline import make_pipeline

        # components are fitted to the training part, four fifths of the labelled cells
        n_components = max(min(50, int(0.7 * task.shown.sum()) - 1), 1)
        return make_pipeline(PCA(n_components, random_state=task.seed, svd_solver="arpack"), KNeighborsClassifier())

    def run(self, task: Task) -> Output:
        """With no more neighbours than there are cells."""
        most = max(int(0.7 * task.shown.sum()), 1)
        grid = {name: sorted({min(n, most) for n in values}) for name, values in self.grid.items()}
        return tuned_predictions(task, self.estimator(task), grid, _features(task))


class LinearSvm(Classifier):
    """Linear support vector machine; softmax of its decision values stands in for probabilities."""

    name = "linear SVM"
    grid = {"C": [0.0001, 0.001, 0.01, 0.1, 1.0]}
    seconds_per_1000_cells = 4.0

    def estimator(self, task: Task) -> Any:
        """One against the rest."""
        from sklearn.svm import LinearSVC

        return LinearSVC(random_state=task.seed)


class Perceptron(Classifier):
    """One hidden layer."""

    name = "MLP"
    grid = {"alpha": [1e-4, 1e-2, 1.0]}
    seconds_per_1000_cells = 12.0

    def estimator(self, task: Task) -> Any:
        """128 hidden units."""
        from sklearn.neural_network import MLPClassifier

        return MLPClassifier((128,), max_iter=task.settings.epochs(40), random_state=task.seed)


class XGBoost(Classifier):
    """Gradient boosted trees."""

    name = "XGBoost"
    packages = {"xgboost": "pip install xgboost (or xgboost-cpu, which is smaller)"}
    grid = {"max_depth": [3, 6]}
    seconds_per_1000_cells = 30.0

    def estimator(self, task: Task) -> Any:
        """200 trees a label."""
        from xgboost import XGBClassifier

        return XGBClassifier(
            n_estimators=10 if task.settings.quick else 200, learning_rate=0.1, tree_method="hist", seed=task.seed
        )


class CellTypist(Method):
    """The trainer of CellTypist: logistic regression on scaled genes, by stochastic gradient descent.

    Its other solver passes an argument that scikit-learn removed in 1.8.
    """

    name = "CellTypist"
    annotates = True
    packages = {"celltypist": "pip install celltypist"}
    seconds_per_1000_cells = 10.0

    def run(self, task: Task) -> Output:
        """Probabilities are its one-against-the-rest ones, divided by their sum."""
        shown, query = np.flatnonzero(task.shown), np.flatnonzero(task.query)
        features = _features(task)
        labels = task.shown_labels
        penalties = [1e-3] if task.settings.quick else [1e-4, 1e-3, 1e-2, 1e-1]
        if len(penalties) > 1:
            validation = validation_cells(labels, task.seed)
            scores = [self._validated(features[shown], labels, validation, alpha, task.seed) for alpha in penalties]
            penalties = [penalties[int(np.argmax(scores))]]
        values, classes = self._probabilities(features[shown], labels, features[query], penalties[0], task.seed)
        probabilities = task.table(values / values.sum(1, keepdims=True).clip(1e-12), classes)
        return Output(probabilities=probabilities, details={"chosen": {"alpha": str(penalties[0])}})

    def _validated(self, features: Any, labels: np.ndarray, validation: np.ndarray, alpha: float, seed: int) -> float:
        from sklearn.metrics import f1_score

        train, held = np.flatnonzero(~validation), np.flatnonzero(validation)
        values, classes = self._probabilities(features[train], labels[train], features[held], alpha, seed)
        return float(f1_score(labels[held], classes[values.argmax(1)], average="macro", zero_division=0))

    @staticmethod
    def _probabilities(
        train: Any, labels: np.ndarray, query: Any, alpha: float, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        import celltypist

        names = np.arange(train.shape[1]).astype(str)
        model = celltypist.train(
            train.toarray(),
            labels=labels,
            genes=names,
            use_SGD=True,
            alpha=alpha,
            check_expression=False,
            n_jobs=1,
            random_state=seed,
        )
        # it leaves out genes that are constant in training
        kept = np.isin(names, model.features)
        scaled = model.scaler.transform(query[:, np.flatnonzero(kept)].toarray()).clip(max=10)
        return model.predict_labels_and_prob(scaled)[1], np.asarray(model.cell_types)
