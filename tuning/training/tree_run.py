"""Decision trees grown some at a time: scikit-learn's histogram boosting, or a forest, as a network of ours.

They are judged after each epoch, so many more trees, as a network is after each pass over the rows.
"""

# N rows, F features, C classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quorate.tuning.architectures.trees import Tree, Trees, join_trees
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.errors import DataError, TuningError
from quorate.tuning.training.epochs import Epoch

# Of a class that no training row has, and what patience waits for.
_ABSENT, _LEAST_GAIN = -20.0, 1e-3


@dataclass(frozen=True)
class TreeTraining:
    """How to grow trees.

    Attributes:
        kind: boosting adds trees up, forest averages extremely randomised ones (Geurts et al. 2006).
        epochs: of ``trees`` trees each; of boosting one for each class counts as one.
        leaves: at most so many in a tree of boosting.
        rows_in_leaf: at least so many.
        features: share of the features that a forest's node chooses from.
        patience: epochs in which the validation log-loss must fall by a thousandth, or no more trees are grown.
        threads: of the CPU.
    """

    kind: Literal["boosting", "forest"]
    epochs: int = 30
    trees: int = 20
    learning_rate: float = 0.1
    leaves: int = 31
    rows_in_leaf: int = 20
    features: float = 0.3
    patience: int = 3
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True)
class GrownTrees:
    """The trees of the best epoch, as a network, and the config that ``architectures.trees`` builds it from."""

    model: Trees
    config: Mapping[str, int | bool]
    best: Epoch
    history: tuple[Epoch, ...]


class TreeRun:
    """Trees grown epoch by epoch (``TrainingRun`` is the same of networks); what is written down is grown again."""

    def __init__(self, rows: Labelled, validation: Labelled, how: TreeTraining):
        """
        Args:
            rows: training rows with one input of numbers, which is read flat.
            validation: rows that decide how many trees are kept.
            how: which trees.

        Raises:
            DataError: not exactly one input.
        """
        self._how, self._classes = how, len(rows.classes)
        (self._rows, self._labels), (self._others, self._truth) = _flat(rows), _flat(validation)
        self._model = _make(how)
        self.history: list[Epoch] = []
        self.best: Epoch | None = None

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the last ``patience`` of them were of little use."""
        losses = [epoch.validation_log_loss for epoch in self.history]
        before = losses[: -self._how.patience]
        return len(losses) >= self._how.epochs or bool(before and min(losses) > (1 - _LEAST_GAIN) * min(before))

    def step(self) -> Epoch:
        """Grow the trees of one epoch and judge all that there are."""
        number = len(self.history) + 1
        self._grow(number)
        train, _ = self._judge(self._rows, self._labels)
        loss, accuracy = self._judge(self._others, self._truth)
        return self._took(Epoch(number, train, loss, accuracy))

    def result(self) -> GrownTrees:
        """The trees of the best epoch so far.

        Raises:
            TuningError: there is none.
        """
        if self.best is None:
            raise TuningError("training", f"no finite log-loss in {len(self.history)} epochs", "check the rows")
        grown, base = _read(self._model, self._how, self.best.number * self._how.trees, self._classes)
        network, config = join_trees(grown, base, average=self._how.kind == "forest")
        return GrownTrees(network, config, self.best, tuple(self.history))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What to write down: the epochs alone, from which the same trees are grown again."""
        return {}, {"history": [asdict(epoch) for epoch in self.history]}

    def restore(self, tensors: Mapping[str, Tensor], words: Mapping[str, Any]) -> None:
        """Go on from what ``state`` of a run with the same arguments gave."""
        epochs = [Epoch(**epoch) for epoch in words["history"]]
        for epoch in epochs:
            self._grow(epoch.number)
            self._took(epoch)

    def _grow(self, epoch: int) -> None:
        from threadpoolctl import threadpool_limits

        name = "max_iter" if self._how.kind == "boosting" else "n_estimators"
        self._model.set_params(**{name: epoch * self._how.trees})
        with threadpool_limits(self._how.threads):
            self._model.fit(self._rows, self._labels)

    def _took(self, epoch: Epoch) -> Epoch:
        self.history.append(epoch)
        if epoch.is_better_than(self.best):
            self.best = epoch
        return epoch

    def _judge(self, rows: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
        """Log-loss and accuracy, with the floor that the network's answers have."""
        probs = np.zeros((len(rows), self._classes))
        probs[:, self._model.classes_] = self._model.predict_proba(rows)
        probs += 1e-3 if self._how.kind == "forest" else 1e-9
        probs /= probs.sum(axis=1, keepdims=True)
        loss = -np.log(probs[np.arange(len(labels)), labels]).mean()
        return float(loss), float((probs.argmax(axis=1) == labels).mean())


def _make(how: TreeTraining) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier

    if how.kind == "boosting":
        return HistGradientBoostingClassifier(
            learning_rate=how.learning_rate, max_leaf_nodes=how.leaves, min_samples_leaf=how.rows_in_leaf,
            early_stopping=False, warm_start=True, random_state=how.seed,
        )  # fmt: skip
    return ExtraTreesClassifier(
        min_samples_leaf=how.rows_in_leaf, max_features=how.features, warm_start=True, random_state=how.seed,
        n_jobs=how.threads,
    )  # fmt: skip


def _flat(data: Labelled) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    if len(data.inputs) != 1 or len(data) == 0:
        found = f"{len(data)} rows with inputs {', '.join(data.inputs)}"
        raise DataError("training data", found, "give rows with exactly one input")
    (array,) = data.inputs.values()
    return np.ascontiguousarray(array, dtype=np.float32).reshape(len(data), -1), data.labels


def _read(model: Any, how: TreeTraining, count: int, classes: int) -> tuple[Sequence[Tree], NDArray[np.floating]]:
    """The first ``count`` rounds of trees of a fitted model, and what is added to them."""
    known = np.asarray(model.classes_)
    if how.kind == "forest":
        return [_of_forest(one.tree_, known, classes) for one in model.estimators_[:count]], np.zeros(classes)
    base = np.full(classes, _ABSENT)
    # Of two classes boosting has one logit, the second's; the first's is 0.
    told = known[1:] if len(known) == 2 else known
    base[known] = 0.0
    base[told] = np.ravel(model._baseline_prediction)
    rounds = model._predictors[:count]
    return [_of_boosting(one.nodes, at, classes) for trees in rounds for at, one in zip(told, trees, strict=True)], base


def _of_boosting(nodes: Any, told: int, classes: int) -> Tree:
    """From scikit-learn's array of records, the same from 1.0 to 1.9 at least."""
    leaf, own = nodes["is_leaf"].astype(bool), np.arange(len(nodes))
    value = np.zeros((len(nodes), classes))
    value[leaf, told] = nodes["value"][leaf]
    left, right = (np.where(leaf, own, nodes[side]) for side in ("left", "right"))
    missing = nodes["missing_go_to_left"].astype(bool)
    return Tree(nodes["feature_idx"], nodes["num_threshold"], left, right, missing, value)


def _of_forest(tree: Any, known: NDArray[np.int64], classes: int) -> Tree:
    leaf, own = tree.children_left < 0, np.arange(tree.node_count)
    value = np.zeros((tree.node_count, classes))
    value[:, known] = tree.value[:, 0] / tree.value[:, 0].sum(axis=1, keepdims=True)
    value[~leaf] = 0.0
    left, right = (np.where(leaf, own, side) for side in (tree.children_left, tree.children_right))
    missing = tree.missing_go_to_left.astype(bool)
    return Tree(np.maximum(tree.feature, 0), tree.threshold, left, right, missing, value)
