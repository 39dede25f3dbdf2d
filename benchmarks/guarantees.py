"""Are promises kept on new rows? Conformal sets, rejection, cascades, bandits on MNIST, over many draws of rows.

    python benchmarks/guarantees.py --data DIR [--resamples 1000] [--rows 2000]

Five scikit-learn models are trained on 10,000 of the training images; the other 60,000 images are predicted once. Each
resample fits on so many of them, drawn anew, and is judged on all that were not drawn.
"""

from __future__ import annotations

import argparse
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

from quorate.fusion import fit_bandit, fit_cascade, fit_rejection, proven_price
from quorate.fusion.calibration.conformal import fit_conformal, prediction_sets
from quorate.tuning import idx_images

COVERAGE, MAX_LOSS, MAX_RISK, CONFIDENCE = 0.9, 0.01, 0.02, 0.95
MEMBERS: dict[str, Any] = {
    "perceptron": MLPClassifier((128,), early_stopping=True, random_state=0),
    "forest": RandomForestClassifier(100, n_jobs=2, random_state=0),
    "neighbours": make_pipeline(PCA(40, random_state=0), KNeighborsClassifier(5)),
    "logistic": make_pipeline(PCA(80, random_state=0), LogisticRegression(max_iter=100)),
    "boosting": make_pipeline(PCA(40, random_state=0), HistGradientBoostingClassifier(max_iter=40, random_state=0)),
}
STAGES = [["perceptron"], ["forest", "neighbours", "logistic", "boosting"]]
Rows = NDArray[np.intp]


def predicted(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(M, 60000, 10) of the images that nothing was trained on, and their labels."""
    splits = idx_images(folder, full=True)
    images = np.concatenate([part.inputs["image"].reshape(len(part), -1) for part in (splits.train, splits.test)])
    labels = np.concatenate([splits.train.labels, splits.test.labels])
    said = []
    for name, member in MEMBERS.items():
        started = time.perf_counter()
        member.fit(images[:10_000], labels[:10_000])
        said.append(member.predict_proba(images[10_000:]).astype(np.float32))
        right = (said[-1].argmax(axis=1) == labels[10_000:]).mean()
        print(f"{name}: accuracy {right:.4f} ({time.perf_counter() - started:.0f} s)", flush=True)
    return np.stack(said), labels[10_000:]


def coverages(said: NDArray[np.float32], labels: NDArray[np.int64], draws: list[tuple[Rows, Rows]]) -> None:
    """Of the mean of every set of members that may be left when one or two are missing."""
    names = list(MEMBERS)
    print(
        f"conformal sets at {COVERAGE:.0%}: coverage of new rows, mean over draws, 5 % to 95 % of draws, classes a set"
    )
    for size in (5, 4, 3):
        for some in combinations(range(len(names)), size):
            fused = said[list(some)].mean(axis=0)
            held, sizes = [], []
            for fit, new in draws:
                sets = prediction_sets(fused[new], fit_conformal(fused[fit], labels[fit], COVERAGE))
                held.append(sets[np.arange(len(new)), labels[new]].mean())
                sizes.append(sets.sum(axis=1).mean())
            low, high = np.quantile(held, [0.05, 0.95])
            listed = ", ".join(names[member] for member in some)
            print(f"  {np.mean(held):.4f} ({low:.4f} to {high:.4f}) {np.mean(sizes):.3f}  {listed}", flush=True)


def cascades(said: NDArray[np.float32], labels: NDArray[np.int64], draws: list[tuple[Rows, Rows]]) -> None:
    outputs, truth, names = torch.from_numpy(said), torch.from_numpy(labels), list(MEMBERS)
    whole = said.mean(axis=0).argmax(axis=1) == labels
    first, sure = said[0].argmax(axis=1) == labels, said[0].max(axis=1)
    for confidence in (None, CONFIDENCE):
        kept, calls, lost = [], [], []
        for seed, (fit, new) in enumerate(draws):
            cascade = fit_cascade(
                names, STAGES, outputs[:, fit], truth[fit], max_loss=MAX_LOSS, confidence=confidence, seed=seed
            )
            leaves = sure[new] >= cascade.thresholds[0]
            loss = whole[new].mean() - np.where(leaves, first[new], whole[new]).mean()
            kept.append(loss <= MAX_LOSS)
            lost.append(loss)
            calls.append((leaves * 1 + ~leaves * len(names)).mean() / len(names))
        print(
            f"cascade, loss of accuracy at most {MAX_LOSS:.0%}, confidence {confidence}: kept in {np.mean(kept):.1%} "
            f"of draws, {np.mean(lost):.4f} lost on average, {np.mean(calls):.3f} of the calls",
            flush=True,
        )


def bandits(said: NDArray[np.float32], labels: NDArray[np.int64], draws: list[tuple[Rows, Rows]]) -> None:
    """Models on as many other rows, as ``tune`` has them; the price on the cascades' rows, and first whom they ask."""
    outputs, truth, names = torch.from_numpy(said), torch.from_numpy(labels), list(MEMBERS)
    whole = torch.from_numpy(said.mean(axis=0).argmax(axis=1) == labels)
    sets = [list(some) for size in range(len(STAGES[1]) + 1) for some in combinations(STAGES[1], size)]
    everyone = torch.ones((len(names), len(draws[0][1]) - len(draws[0][0])), dtype=torch.bool)
    for explore in (0.0, 0.02):
        kept, calls, lost, none = [], [], [], 0
        for seed, (fit, new) in enumerate(draws):
            solve, new = new[: len(fit)], new[len(fit) :]
            rule = fit_bandit(names, STAGES[0], sets, outputs[:, solve], truth[solve], explore=explore)
            proven = proven_price(
                rule, outputs[:, fit], truth[fit], max_loss=MAX_LOSS, confidence=CONFIDENCE, seed=seed
            )
            none += proven is None
            chosen = proven or rule.at_price(-2.0)
            answered = chosen.fuse(outputs[:, new]).values.argmax(dim=1) == truth[new]
            lost.append(float((whole[new].float() - answered.float()).mean()))
            kept.append(lost[-1] <= MAX_LOSS)
            calls.append(float(chosen.select(outputs[:, new], everyone).float().mean()))
        print(
            f"bandit, loss of accuracy at most {MAX_LOSS:.0%}, confidence {CONFIDENCE}, explored {explore:.0%}: kept "
            f"in {np.mean(kept):.1%} of draws, {np.mean(lost):.4f} lost on average, {np.mean(calls):.3f} of the calls, "
            f"{none} without a price",
            flush=True,
        )


def rejections(said: NDArray[np.float32], labels: NDArray[np.int64], draws: list[tuple[Rows, Rows]]) -> None:
    fused = said.mean(axis=0)
    right, sure = fused.argmax(axis=1) == labels, fused.max(axis=1)
    for confidence in (None, CONFIDENCE):
        kept, answered = [], []
        for fit, new in draws:
            above = sure[new] >= fit_rejection(fused[fit], labels[fit], MAX_RISK, confidence).threshold
            kept.append(not above.any() or (~right[new][above]).mean() <= MAX_RISK)
            answered.append(above.mean())
        print(
            f"rejection, errors at most {MAX_RISK:.0%}, confidence {confidence}: kept in {np.mean(kept):.1%} of draws, "
            f"{np.mean(answered):.3f} answered",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds mnist")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=2000, help="to fit on")
    arguments = parser.parse_args()
    said, labels = predicted(arguments.data / "mnist")
    random = np.random.default_rng(0)
    draws = []
    for _ in range(arguments.resamples):
        order = random.permutation(len(labels))
        draws.append((order[: arguments.rows], order[arguments.rows : arguments.rows + 20_000]))
    print(f"{arguments.resamples} draws of {arguments.rows} rows to fit on, 20,000 others to judge on")
    cascades(said, labels, draws)
    bandits(said, labels, draws)
    rejections(said, labels, draws)
    coverages(said, labels, draws[:200])


if __name__ == "__main__":
    main()
