"""Does tuning pay on real data? Every alternative beside the best single member and the uniform mean, on held-out rows.

    python benchmarks/real_data.py --data DIR [--only fashion-mnist sms-spam uci-adult banking77]

DIR holds the folders; each one's licence and origin are in its SOURCE.txt. Members are trained on the training rows
alone. Alternatives are fitted out of fold (scikit-learn members, 5 folds of the training rows) or on a fifth of the
training rows that the members have not seen (networks); all are judged on the official test rows (sms-spam: 70 % of the
rows). Members that predict training rows were fitted on fewer rows than those that predict test rows, so only test
rows count as evidence there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyarrow import csv
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict, train_test_split
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from quorate.tuning import Choice, Outputs, Training, choose, idx_images, train

NETWORKS: dict[str, tuple[dict[str, Any], Training]] = {
    "cnn": ({"family": "cnn", "width": 16, "depth": 3}, Training(epochs=8, batch_size=64)),
    "rnn": ({"family": "rnn", "width": 64}, Training(epochs=8, batch_size=64)),
    "transformer": ({"family": "transformer", "width": 48, "patch": 4}, Training(epochs=8, batch_size=64)),
    "mlp": ({"family": "mlp", "width": 256}, Training(epochs=12, batch_size=64)),
}


@dataclass(frozen=True)
class Predictions:
    """What the members say: (M, N, C) of rows to solve on and of rows to judge on, with their labels."""

    names: list[str]
    solve: NDArray[Any]
    solve_labels: NDArray[np.int64]
    judge: NDArray[Any]
    judge_labels: NDArray[np.int64]


def fashion_mnist(folder: Path) -> Predictions:
    """10,000 of the training images, 8,000 to train on and 2,000 to solve on; all 10,000 test images."""
    splits = idx_images(folder, full=True)
    whole = splits.train.inputs["image"][:10_000]
    labels = splits.train.labels[:10_000]
    rows = type(splits.train)({"image": whole}, labels, splits.train.classes)
    fit, solve = train_test_split(np.arange(10_000), test_size=0.2, stratify=labels, random_state=0)
    outputs: list[tuple[Any, Any]] = []
    for name, (config, how) in NETWORKS.items():
        started = time.perf_counter()
        network = train(config, rows.rows(fit), rows.rows(solve), how).model
        to_solve, to_judge = (data.inputs["image"] for data in (rows.rows(solve), splits.test))
        outputs.append((softmax_of(network, to_solve), softmax_of(network, to_judge)))
        print(f"  {name}: {time.perf_counter() - started:.0f} s", flush=True)
    solved, judged = (np.stack(part) for part in zip(*outputs, strict=True))
    return Predictions(list(NETWORKS), solved, labels[solve], judged, splits.test.labels)


def softmax_of(network: torch.nn.Module, images: NDArray[Any]) -> NDArray[np.float32]:
    with torch.inference_mode():
        parts = torch.from_numpy(images).split(500)
        return torch.cat([network(part).softmax(dim=1) for part in parts]).numpy()


def sms_spam(folder: Path) -> Predictions:
    lines = (folder / "SMSSpamCollection").read_text(encoding="utf-8").splitlines()
    kinds, texts = zip(*(line.split("\t", 1) for line in lines), strict=True)
    labels = (np.array(kinds) == "spam").astype(np.int64)
    fit, held_out = train_test_split(np.arange(len(labels)), train_size=0.3, stratify=labels, random_state=0)
    rows = np.array(texts, dtype=object)
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2))
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    members = {
        "words + logistic": make_pipeline(words, LogisticRegression(C=30)),
        "letters + logistic": make_pipeline(letters, LogisticRegression(C=30)),
        "words + naive Bayes": make_pipeline(TfidfVectorizer(), MultinomialNB(alpha=0.1)),
        "letters + naive Bayes": make_pipeline(letters, MultinomialNB(alpha=0.05)),
        "words + forest": make_pipeline(words, RandomForestClassifier(200, random_state=0)),
    }
    return out_of_fold(members, rows[fit], labels[fit], rows[held_out], labels[held_out])


def uci_adult(folder: Path) -> Predictions:
    tables = [csv.read_csv(folder / name).to_pandas() for name in ("adult.data", "adult.test")]
    labels = [(table.pop("income").str.strip(". ") == ">50K").to_numpy().astype(np.int64) for table in tables]
    numbers = list(tables[0].select_dtypes("number").columns)
    words = [name for name in tables[0].columns if name not in numbers]
    wide = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", min_frequency=20), words), (StandardScaler(), numbers)
    )
    unknown = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    narrow = make_column_transformer((unknown, words), remainder="passthrough")
    members = {
        "boosting": make_pipeline(narrow, HistGradientBoostingClassifier(random_state=0)),
        "forest": make_pipeline(narrow, RandomForestClassifier(100, min_samples_leaf=3, random_state=0)),
        "logistic": make_pipeline(wide, LogisticRegression(max_iter=300)),
        "perceptron": make_pipeline(wide, MLPClassifier((64,), early_stopping=True, max_iter=30, random_state=0)),
    }
    return out_of_fold(members, tables[0], labels[0], tables[1], labels[1])


def banking77(folder: Path) -> Predictions:
    tables = [csv.read_csv(folder / "banking_data" / name).to_pandas() for name in ("train.csv", "test.csv")]
    names = sorted(set(tables[0]["category"]))
    labels = [table["category"].map(names.index).to_numpy().astype(np.int64) for table in tables]
    rows = [table["text"].to_numpy(dtype=object) for table in tables]
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2))
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, min_df=3)
    members = {
        "words + logistic": make_pipeline(words, LogisticRegression(C=20, tol=1e-3, max_iter=60)),
        "letters + logistic": make_pipeline(letters, LogisticRegression(C=20, tol=1e-3, max_iter=60)),
        "words + naive Bayes": make_pipeline(words, ComplementNB(alpha=0.3)),
        "words + neighbours": make_pipeline(words, KNeighborsClassifier(15, weights="distance", metric="cosine")),
    }
    return out_of_fold(members, rows[0], labels[0], rows[1], labels[1])


def out_of_fold(
    members: dict[str, Any], rows: Any, labels: NDArray[np.int64], others: Any, truth: NDArray[np.int64]
) -> Predictions:
    """Each training row by a model that has not seen it, each test row by a model of all training rows."""
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    solved, judged = [], []
    for name, member in members.items():
        started = time.perf_counter()
        solved.append(cross_val_predict(member, rows, labels, cv=folds, method="predict_proba"))
        judged.append(clone(member).fit(rows, labels).predict_proba(others))
        print(f"  {name}: {time.perf_counter() - started:.0f} s", flush=True)
    return Predictions(list(members), np.stack(solved), labels, np.stack(judged), truth)


def report(found: Predictions) -> Choice:
    solve, judge = (
        Outputs(tuple(found.names), probs.astype(np.float32), labels)
        for probs, labels in ((found.solve, found.solve_labels), (found.judge, found.judge_labels))
    )
    choice = choose(solve, judge, pool=False)
    right = {
        name: float((recipe.fuse(judge.names, judge.probs).argmax(axis=1) == judge.labels).mean())
        for name, recipe in choice.recipes.items()
    }
    for name, one in choice.alternatives.items():
        accuracy = f"{right[name]:.4f}" if name in right else ""
        print(f"  {name:24} log-loss {one.value:.4f}  accuracy {accuracy}")
    print(f"  {choice.rows} held-out rows: {choice.verdict}", flush=True)
    return choice


SETS: dict[str, Callable[[Path], Predictions]] = {
    "fashion-mnist": fashion_mnist,
    "sms-spam": sms_spam,
    "uci-adult": uci_adult,
    "banking77": banking77,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of data folders")
    parser.add_argument("--only", nargs="+", choices=SETS, default=list(SETS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.only:
        folder = arguments.data / name
        if not folder.is_dir():
            print(f"{name}: not in {arguments.data}")
            continue
        print(name)
        report(SETS[name](folder))


if __name__ == "__main__":
    main()
