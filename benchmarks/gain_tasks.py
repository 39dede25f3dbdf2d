"""The tasks of ``gain.py``: rows drawn by seed, and the models of scikit-learn that are trained on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyarrow import csv
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from quorate.tuning import idx_images

MOST_ROWS = 5000
Table = tuple[Any, NDArray[Any]]


@dataclass(frozen=True)
class Task:
    """Rows by seed, and the members that are trained on them."""

    draw: Callable[[int], Table]
    members: Callable[[int], Mapping[str, Any]]
    values: bool = False


def classifiers(seed: int) -> dict[str, Any]:
    return {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
        "forest": RandomForestClassifier(100, random_state=seed),
        "boosting": HistGradientBoostingClassifier(max_iter=60, random_state=seed),
        "neighbours": make_pipeline(StandardScaler(), KNeighborsClassifier(7)),
        "bayes": GaussianNB(var_smoothing=1e-3),
        "perceptron": make_pipeline(StandardScaler(), MLPClassifier(max_iter=60, random_state=seed)),
    }


def regressors(seed: int) -> dict[str, Any]:
    return {
        "ridge": make_pipeline(StandardScaler(), Ridge()),
        "forest": RandomForestRegressor(100, random_state=seed),
        "boosting": HistGradientBoostingRegressor(max_iter=60, random_state=seed),
        "neighbours": make_pipeline(StandardScaler(), KNeighborsRegressor(7)),
        "perceptron": make_pipeline(StandardScaler(), MLPRegressor(max_iter=300, random_state=seed)),
    }


def of_text(seed: int) -> dict[str, Any]:
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2))
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, min_df=2)
    return {
        "words + logistic": make_pipeline(words, LogisticRegression(C=20, tol=1e-3, max_iter=60)),
        "letters + logistic": make_pipeline(letters, LogisticRegression(C=20, tol=1e-3, max_iter=60)),
        "words + naive Bayes": make_pipeline(TfidfVectorizer(), MultinomialNB(alpha=0.1)),
        "letters + complement": make_pipeline(letters, ComplementNB(alpha=0.3)),
        "words + neighbours": make_pipeline(words, KNeighborsClassifier(15, weights="distance", metric="cosine")),
    }


def bundled(load: Callable[..., Any], part: Callable[[Table], Table] = lambda table: table) -> Callable[[int], Table]:
    return lambda seed: part(load(return_X_y=True))


def noisy_digits(seed: int) -> Table:
    pixels, labels = datasets.load_digits(return_X_y=True)
    return pixels + np.random.default_rng(seed).normal(0, 6, pixels.shape), labels


def images(folder: Path) -> Callable[[int], Table]:
    def draw(seed: int) -> Table:
        train = idx_images(folder, full=True).train
        some = np.random.default_rng(seed).choice(len(train.labels), MOST_ROWS, replace=False)
        flat = train.inputs["image"][some].reshape(MOST_ROWS, -1)
        return PCA(40, random_state=0).fit_transform(flat), train.labels[some]

    return draw


def sms_spam(folder: Path) -> Table:
    lines = (folder / "SMSSpamCollection").read_text(encoding="utf-8").splitlines()
    kinds, texts = zip(*(line.split("\t", 1) for line in lines), strict=True)
    return np.array(texts, dtype=object), (np.array(kinds) == "spam").astype(np.int64)


def banking77(folder: Path) -> Table:
    table = csv.read_csv(folder / "banking_data" / "train.csv").to_pandas()
    names = sorted(set(table["category"]))
    return table["text"].to_numpy(dtype=object), table["category"].map(names.index).to_numpy()


def uci_adult(folder: Path) -> Table:
    table = csv.read_csv(folder / "adult.data").to_pandas()
    labels = (table.pop("income").str.strip(". ") == ">50K").to_numpy().astype(np.int64)
    for name in table.select_dtypes(exclude="number").columns:
        table[name] = table[name].astype("category").cat.codes
    return table.to_numpy(dtype=np.float64), labels


def tasks(data: Path | None) -> dict[str, Task]:
    made: dict[str, Callable[[int], Table]] = {
        "iris": bundled(datasets.load_iris),
        "wine": bundled(datasets.load_wine),
        "cancer": bundled(datasets.load_breast_cancer),
        "cancer-means": bundled(datasets.load_breast_cancer, lambda table: (table[0][:, :4], table[1])),
        "digits": bundled(datasets.load_digits),
        "digits-parity": bundled(datasets.load_digits, lambda table: (table[0], table[1] % 2)),
        "digits-half": bundled(datasets.load_digits, lambda table: (table[0][:, 32:], table[1])),
        "digits-noisy": noisy_digits,
        "diabetes-high": bundled(datasets.load_diabetes, lambda table: (table[0], (table[1] > 140).astype(int))),
        "moons": lambda seed: datasets.make_moons(1500, noise=0.35, random_state=seed),
        "circles": lambda seed: datasets.make_circles(1500, noise=0.2, factor=0.5, random_state=seed),
        "hastie": lambda seed: _from_zero(datasets.make_hastie_10_2(3000, random_state=seed)),
        "quantiles": lambda seed: datasets.make_gaussian_quantiles(
            n_samples=2000, n_features=6, n_classes=4, random_state=seed
        ),
        "blobs": lambda seed: datasets.make_blobs(1500, 8, centers=12, cluster_std=6, random_state=seed),
        "few-rows": lambda seed: _made(seed, 300),
        "many-classes": lambda seed: _made(seed, 4000, n_classes=15, n_informative=12),
        "rare": lambda seed: _made(seed, 3000, weights=[0.93], flip_y=0.02),
        "wrong-labels": lambda seed: _made(seed, 2500, flip_y=0.3),
    }
    found = {name: Task(draw, classifiers) for name, draw in made.items()}
    values: dict[str, Callable[[int], Table]] = {
        "diabetes": bundled(datasets.load_diabetes),
        "friedman1": lambda seed: datasets.make_friedman1(1500, noise=1.0, random_state=seed),
        "friedman2": lambda seed: datasets.make_friedman2(1500, noise=60.0, random_state=seed),
        "friedman3": lambda seed: datasets.make_friedman3(1500, noise=0.15, random_state=seed),
    }
    found |= {name: Task(draw, regressors, values=True) for name, draw in values.items()}
    if data is not None:
        found |= {
            "mnist": Task(images(data / "mnist"), classifiers),
            "fashion-mnist": Task(images(data / "fashion-mnist"), classifiers),
            "uci-adult": Task(lambda seed: uci_adult(data / "uci-adult"), classifiers),
            "sms-spam": Task(lambda seed: sms_spam(data / "sms-spam"), of_text),
            "banking77": Task(lambda seed: banking77(data / "banking77"), of_text),
        }
    return found


def _from_zero(table: Table) -> Table:
    return table[0], (table[1] > 0).astype(np.int64)


def _made(seed: int, count: int, **more: Any) -> Table:
    how: dict[str, Any] = {"n_features": 20, "n_informative": 8, "n_classes": 3, "random_state": seed, **more}
    if "weights" in how:
        how["n_classes"] = 2
    return datasets.make_classification(count, **how)
