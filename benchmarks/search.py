"""Does the architecture search find what is as good as what people make by hand in the same time on the same cores?

    python benchmarks/search.py --data DIR [--minutes 8] [--tasks digits fashion-mnist uci-adult] [--ways search ...]

Three ways to an ensemble from the same training rows, judged on the same test rows: the best pick of
``quorate.sweep(None, rows, time_s=...)``, which divides the rows by itself; three networks made by hand, trained for
8 epochs each (an eighth of the rows says which epoch is kept) and averaged; scikit-learn's StackingClassifier over the
usual models. The search uses all its time, the others the seconds that they take. Differences are paired, row by row.
DIR holds the folders of real_data.py; digits needs none.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyarrow import csv
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC

import quorate
from quorate.deployments.engine.revision import build_revision
from quorate.deployments.sources.loading import load_model
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.tuning import Labelled, Training, idx_images, train

Floats = NDArray[np.float64]
LEAST = 1e-15


@dataclass(frozen=True)
class Task:
    """Rows to learn from and to judge on, what is made of them by hand, and the columns that hold codes."""

    rows: Labelled
    test: Labelled
    networks: dict[str, dict[str, Any]]
    codes: tuple[int, ...] = ()

    @property
    def images(self) -> bool:
        return next(iter(self.rows.inputs.values())).ndim == 4


IMAGES: dict[str, dict[str, Any]] = {
    "cnn": {"family": "cnn", "width": 16, "depth": 3},
    "rnn": {"family": "rnn", "width": 64},
    "transformer": {"family": "transformer", "width": 48, "patch": 4},
}
TABLES: dict[str, dict[str, Any]] = {
    f"mlp {width}": {"family": "mlp", "width": width, "depth": depth} for width, depth in ((64, 1), (128, 2), (256, 2))
}


def digits(_: Path | None) -> Task:
    pixels, labels = load_digits(return_X_y=True)
    names = tuple(str(one) for one in range(10))
    rows = Labelled({"image": (pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8)}, labels.astype(np.int64), names)
    fit, test = train_test_split(np.arange(len(labels)), test_size=0.25, stratify=labels, random_state=0)
    networks = {**IMAGES, "transformer": {**IMAGES["transformer"], "patch": 2}}
    return Task(rows.rows(np.sort(fit)), rows.rows(np.sort(test)), networks)


def fashion_mnist(data: Path | None) -> Task:
    """The first 10,000 training images, all test images."""
    splits = idx_images(_folder(data, "fashion-mnist"), full=True)
    whole = splits.train  # a fifth of the file is the validation split: what is left is in the file's order
    return Task(whole.rows(slice(0, 10_000)), splits.test, IMAGES)


def uci_adult(data: Path | None) -> Task:
    """Categories as codes, numbers as they are, in one row of 14 numbers."""
    folder = _folder(data, "uci-adult")
    tables = [csv.read_csv(folder / name).to_pandas() for name in ("adult.data", "adult.test")]
    labels = [(table.pop("income").str.strip(". ") == ">50K").to_numpy().astype(np.int64) for table in tables]
    numbers = set(tables[0].select_dtypes("number").columns)
    words = [name for name in tables[0].columns if name not in numbers]
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1).fit(tables[0][words])
    for table in tables:
        table[words] = codes.transform(table[words]).astype(np.float64)
    parts = [
        Labelled({"row": table.to_numpy(np.float32)}, label, ("<=50K", ">50K"))
        for table, label in zip(tables, labels, strict=True)
    ]
    places = tuple(place for place, name in enumerate(tables[0].columns) if name in words)
    return Task(parts[0], parts[1], TABLES, places)


def _folder(data: Path | None, name: str) -> Path:
    if data is None:
        raise SystemExit(f"{name}: give --data, a folder with {name}")
    return data / name


def search(task: Task, seconds: float, seed: int) -> Floats:
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as runs:
        found = quorate.sweep(None, task.rows, time_s=seconds, seed=seed, runs=runs)
        best = found.best
        print(f"  the search took {time.perf_counter() - started:.0f} s of {seconds:.0f} s")
        print(f"  {len(found.members)} members, {len(found.structures)} structures, {found.seconds}")
        for trial in sorted(found.members, key=lambda trial: trial.values.get("log_loss", float("inf")))[:5]:
            history = trial.details.get("history", [])
            loss = trial.values.get("log_loss", float("nan"))
            epochs = f"{len(history)} epochs, best {trial.details.get('best_epoch')}"
            print(f"    {trial.number} {loss:.4f} {epochs} {trial.failure or ''} {dict(trial.params)}")
        print(f"  best: {best.structure.topology} {best.structure.rule} {dict(best.weights) or best.structure.members}")
        print(f"  validation {best.values['log_loss']:.4f} held-out {best.log_loss:.4f}", flush=True)
        return answers(best.spec, best.folder, task.test)


def answers(spec: EnsembleSpec, folder: Path, rows: Labelled) -> Floats:
    """(N, C) what a pick answers, members that read members included."""
    revision = build_revision(spec, folder)
    known: dict[str, NDArray[Any]] = {}

    def said(name: str) -> NDArray[Any]:
        if name in rows.inputs:
            return rows.inputs[name]
        if name not in known:
            member = spec.members[name]
            model, read = load_model(name, member, folder), {one: said(one) for one in member.inputs}
            parts = [
                model.predict({one: array[at : at + 256] for one, array in read.items()})
                for at in range(0, len(rows), 256)
            ]
            known[name] = np.concatenate(parts)
        return known[name]

    def probabilities(name: str) -> NDArray[Any]:
        values = torch.from_numpy(np.asarray(said(name), np.float32))
        return (values.softmax(dim=1) if spec.members[name].output == "logits" else values).numpy()

    outputs = np.stack([probabilities(name) for name in revision.asked])
    return np.asarray(revision.fuse(outputs, np.ones(outputs.shape[:2], bool)).values, np.float64)


def networks(task: Task, seconds: float, seed: int) -> Floats:
    """Three, 8 epochs each, averaged; of a table over standardised numbers and one-hot codes."""
    rows, test = (task.rows, task.test) if task.images else _prepared(task)
    fit, stop = train_test_split(np.arange(len(rows)), test_size=0.125, stratify=rows.labels, random_state=seed)
    (images,) = test.inputs.values()
    total: Any = 0.0
    for config in task.networks.values():
        how = Training(epochs=8, batch_size=64, seed=seed)
        network = train(config, rows.rows(np.sort(fit)), rows.rows(np.sort(stop)), how).model
        with torch.inference_mode():
            parts = [network(part).softmax(dim=1) for part in torch.from_numpy(images).split(500)]
        total = total + torch.cat(parts).numpy()
    return np.asarray(total / len(task.networks), np.float64)


def _prepared(task: Task) -> tuple[Labelled, Labelled]:
    (rows,), (test,) = task.rows.inputs.values(), task.test.inputs.values()
    ready = _columns(task).fit(rows)

    def of(part: Labelled, array: NDArray[Any]) -> Labelled:
        made = ready.transform(array)
        dense = made.toarray() if hasattr(made, "toarray") else made
        return Labelled({"row": np.asarray(dense, np.float32)[:, None, None, :]}, part.labels, part.classes)

    return of(task.rows, rows), of(task.test, test)


def _columns(task: Task) -> Any:
    if task.images:
        return StandardScaler()
    codes = list(task.codes)
    numbers = [place for place in range(next(iter(task.rows.inputs.values())).shape[1]) if place not in codes]
    one_hot = OneHotEncoder(handle_unknown="ignore", min_frequency=20)
    return make_column_transformer((one_hot, codes), (StandardScaler(), numbers))


def stacking(task: Task, seconds: float, seed: int) -> Floats:
    (rows,), (test,) = task.rows.inputs.values(), task.test.inputs.values()
    models: dict[str, Any] = {
        "logistic": make_pipeline(_columns(task), LogisticRegression(max_iter=200, C=0.1)),
        "forest": RandomForestClassifier(200, min_samples_leaf=1 if task.images else 3, random_state=seed),
        "perceptron": make_pipeline(
            _columns(task), MLPClassifier((128,), early_stopping=True, max_iter=40, random_state=seed)
        ),
    }
    if task.images:
        models["svm"] = SVC(C=5.0, gamma="scale", random_state=seed)
    else:
        models["boosting"] = HistGradientBoostingClassifier(random_state=seed)
    stack = StackingClassifier(list(models.items()), LogisticRegression(max_iter=500), n_jobs=2)
    stack.fit(rows.reshape(len(rows), -1), task.rows.labels)
    return np.asarray(stack.predict_proba(test.reshape(len(test), -1)), np.float64)


TASKS: dict[str, Callable[[Path | None], Task]] = {
    "digits": digits, "fashion-mnist": fashion_mnist, "uci-adult": uci_adult,
}  # fmt: skip
WAYS: dict[str, Callable[[Task, float, int], Floats]] = {
    "search": search, "networks": networks, "stacking": stacking,
}  # fmt: skip


def compare(name: str, task: Task, ways: list[str], minutes: float, seed: int) -> None:
    rows = len(task.test)
    print(f"{name}: {len(task.rows)} training rows, {rows} test rows", flush=True)
    losses: dict[str, Floats] = {}
    for way in ways:
        started = time.perf_counter()
        probs = WAYS[way](task, 60 * minutes, seed)
        took = time.perf_counter() - started
        right = probs[np.arange(rows), task.test.labels] / probs.sum(axis=1)
        losses[way] = -np.log(np.maximum(right, LEAST))
        hits = probs.argmax(axis=1) == task.test.labels
        line = f"  {way:9} {took:6.0f} s  log-loss {_mean(losses[way])}  accuracy {_mean(hits.astype(float))}"
        if way != ways[0]:
            ratio = losses[ways[0]].mean() / losses[way].mean()
            line += f"  {ways[0]} less {way}: {_mean(losses[ways[0]] - losses[way])}, ratio {ratio:.3f}"
        print(line, flush=True)


def _mean(values: Floats) -> str:
    return f"{values.mean():.4f} ± {values.std(ddof=1) / len(values) ** 0.5:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    for name in asked.tasks:
        compare(name, TASKS[name](asked.data), asked.ways, asked.minutes, asked.seed)


if __name__ == "__main__":
    main()
