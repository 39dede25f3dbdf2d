"""Is what the verdict recommends better than what people do without it, on many tasks?

    python benchmarks/gain.py [--data DIR] [--seeds 5] [--tasks digits iris ...] [--permuted] [--keep DIR]
        [--autogluon PYTHON]

Each task's rows are split anew with every seed: 40 % to train scikit-learn's models on, 20 % to solve on, 20 % to judge
on and 20 % to test on, which nothing else sees. Quorate chooses by solving and judging rows and serves what it fits on
both then, beside it (``judged``) what it would without refit; the others have both for their choice and their fit: the
best single member, greedy selection with replacement as AutoGluon's weighted ensemble does it (ours gives its weights,
see tests/tuning/solvers), and a logistic regression over the members' probabilities as scikit-learn's
StackingClassifier with prefit members has. All are compared by log-loss (rmse for values) on test rows. With
``--permuted``, labels of all but the training rows are drawn anew, so that any ensemble that is claimed is a false
claim. The data's DIR has the folders of real_data.py; without it those tasks are left out. What members predicted is
kept in the other DIR, where one is given, and read from there the next time: only the choice is made again. PYTHON is
the interpreter of an environment that has autogluon.core: its own EnsembleSelection is asked for the same rows, and
compared with ours.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import friedmanchisquare, rankdata, studentized_range
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import train_test_split

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.gain_tasks import MOST_ROWS, Task, tasks
from quorate.tuning import Choice, Outputs, Recipe, choose, greedy_weights
from quorate.tuning.alternatives.base import joined

PROBABILITY = 1e-15
# Mean losses closer than this share are those of one answer: served in float32, computed here in another order.
ROUNDING = 1e-6


def predicted(task: Task, seed: int, permuted: bool) -> tuple[Outputs, Outputs, Outputs]:
    """What members trained on 40 % of the rows say of three times 20 %."""
    rows, labels = task.draw(seed)
    if len(labels) > MOST_ROWS:
        some = np.random.default_rng(seed).choice(len(labels), MOST_ROWS, replace=False)
        rows, labels = rows[some], labels[some]
    if not task.values:
        labels = np.unique(labels, return_inverse=True)[1]

    def split(index: NDArray[Any], share: float) -> list[NDArray[Any]]:
        kept = labels[index]
        mix = None if task.values or np.bincount(kept).min() < 2 else kept
        found: list[NDArray[Any]] = train_test_split(index, train_size=share, stratify=mix, random_state=seed)
        return found

    train, rest = split(np.arange(len(labels)), 0.4)
    solve, rest = split(rest, 1 / 3)
    parts = (solve, *split(rest, 0.5))
    truth = labels.copy()
    if permuted:
        truth[np.concatenate(parts)] = np.random.default_rng(seed).permutation(truth[np.concatenate(parts)])
    members = {name: member.fit(rows[train], labels[train]) for name, member in task.members(seed).items()}

    def outputs(index: NDArray[Any]) -> Outputs:
        said = [
            member.predict(rows[index])[:, None] if task.values else member.predict_proba(rows[index])
            for member in members.values()
        ]
        true = truth[index].astype(np.float64) if task.values else truth[index].astype(np.int64)
        return Outputs(tuple(members), np.stack(said).astype(np.float32), true)

    solving, judging, testing = (outputs(part) for part in parts)
    return solving, judging, testing


def kept_predictions(task: Task, seed: int, permuted: bool, file: Path | None) -> tuple[Outputs, Outputs, Outputs]:
    """The same, from the file where there is one, or into it."""
    parts = ("solve", "judge", "test")
    if file is None or not file.is_file():
        found = predicted(task, seed, permuted)
        if file is not None:
            arrays: dict[str, Any] = {f"{part}_probs": one.probs for part, one in zip(parts, found, strict=True)}
            arrays |= {f"{part}_labels": one.labels for part, one in zip(parts, found, strict=True)}
            np.savez_compressed(file, names=np.array(found[0].names), **arrays)
        return found
    with np.load(file) as data:
        names = tuple(map(str, data["names"]))
        solve, judge, test = (Outputs(names, data[f"{part}_probs"], data[f"{part}_labels"]) for part in parts)
    return solve, judge, test


AUTOGLUON = """
import json, sys
import numpy as np
from autogluon.core.metrics import log_loss, root_mean_squared_error
from autogluon.core.models.greedy_ensemble.ensemble_selection import EnsembleSelection
for line in sys.stdin:
    data = np.load(line.strip())
    probs, labels = data["probs"], data["labels"]
    if labels.dtype.kind == "f":
        kind, metric, said = "regression", root_mean_squared_error, list(probs[:, :, 0])
    elif probs.shape[2] == 2:
        kind, metric, said = "binary", log_loss, list(probs[:, :, 1])
    else:
        kind, metric, said = "multiclass", log_loss, list(probs)
    fitted = EnsembleSelection(25, kind, metric).fit(said, labels)
    print(json.dumps(fitted.weights_.tolist()), flush=True)
"""


class AutoGluon:
    """Its weighted ensemble, asked in another interpreter."""

    def __init__(self, python: str) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen([python, "-c", AUTOGLUON], **pipes)
        self.same: list[bool] = []

    def weights(self, seen: Outputs, ours: NDArray[np.float64]) -> NDArray[np.float64]:
        """(M,) for these rows; whether they are ours is kept."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            np.savez(Path(folder) / "data.npz", probs=seen.probs, labels=seen.labels)
            print(f"{folder}/data.npz", file=self._process.stdin, flush=True)
            found = np.array(json.loads(self._process.stdout.readline()))
        self.same.append(bool(np.allclose(found, ours, atol=1e-9)))
        return found


def losses(outputs: Outputs, answers: NDArray[Any]) -> NDArray[np.float64]:
    """(N,) nats, or squared errors."""
    if outputs.of_values:
        return np.asarray((answers[:, 0] - outputs.labels) ** 2, dtype=np.float64)
    given = answers[np.arange(len(outputs)), outputs.labels].astype(np.float64)
    return np.asarray(-np.log(np.clip(given, PROBABILITY, 1.0)))


def recommended(choice: Choice, recipes: Mapping[str, Recipe], solve: Outputs, test: Outputs) -> NDArray[Any]:
    """What the recommended alternative says; the floor answers alike whatever members say."""
    if choice.recommended in recipes:
        return recipes[choice.recommended].fuse(test.names, test.probs)
    if solve.of_values:
        return np.full((len(test), 1), solve.labels.mean())
    counts = np.bincount(solve.labels, minlength=solve.classes) + 1.0
    return np.tile(counts / counts.sum(), (len(test), 1))


def stacked(seen: Outputs, test: Outputs) -> NDArray[Any]:
    """scikit-learn's final estimators, over the members' outputs side by side."""
    flat, other = (part.probs.transpose(1, 0, 2).reshape(len(part), -1) for part in (seen, test))
    if seen.of_values:
        return np.asarray(RidgeCV().fit(flat, seen.labels).predict(other)[:, None])
    model = LogisticRegression(max_iter=2000).fit(flat, seen.labels)
    answers = np.zeros((len(test), seen.classes))
    answers[:, model.classes_] = model.predict_proba(other)
    return answers


def trial(
    task: Task, seed: int, permuted: bool, file: Path | None, autogluon: AutoGluon | None
) -> tuple[Choice, dict[str, NDArray[np.float64]]]:
    """The verdict, and (N,) losses on test rows of each way."""
    solve, judge, test = kept_predictions(task, seed, permuted, file)
    seen = joined(solve, judge)
    choice = choose(solve, judge, metric="rmse" if task.values else "log_loss", seed=seed)
    best = int(np.argmin([losses(seen, said).mean() for said in seen.probs]))
    metric = "rmse" if task.values else "log_loss"
    data = seen.probs[:, :, 0] if task.values else seen.probs
    greedy = greedy_weights(data, seen.labels, metric=metric).values
    theirs = {} if autogluon is None else {"autogluon": autogluon.weights(seen, greedy)}
    return choice, {
        "quorate": losses(test, recommended(choice, choice.served, solve, test)),
        "judged": losses(test, recommended(choice, choice.recipes, solve, test)),
        "best single": losses(test, test.probs[best]),
        "uniform": losses(test, test.probs.mean(axis=0)),
        "greedy": losses(test, np.tensordot(greedy, test.probs, axes=1)),
        "stacking": losses(test, stacked(seen, test)),
        **{way: losses(test, np.tensordot(weights, test.probs, axes=1)) for way, weights in theirs.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", nargs="+", help="all, by default")
    parser.add_argument("--permuted", action="store_true", help="labels drawn anew: what is claimed is false")
    parser.add_argument("--keep", type=Path, help="a folder for what members predicted")
    parser.add_argument("--autogluon", metavar="PYTHON", help="compare with autogluon.core of this interpreter")
    arguments = parser.parse_args()
    autogluon = None if arguments.autogluon is None else AutoGluon(arguments.autogluon)
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # scikit-learn's, about steps that were not enough: members may be bad
    known = tasks(arguments.data)
    trials = []
    for name in arguments.tasks or known:
        for seed in range(arguments.seeds):
            started = time.perf_counter()
            stem = f"{name}-{seed}-permuted.npz" if arguments.permuted else f"{name}-{seed}.npz"
            file = None if arguments.keep is None else arguments.keep / stem
            choice, found = trial(known[name], seed, arguments.permuted, file, autogluon)
            trials.append((name, choice, found))
            means = "  ".join(f"{way} {_mean(choice, loss):.4f}" for way, loss in found.items())
            print(
                f"{name:14} {seed}  {means}  -> {choice.recommended} ({time.perf_counter() - started:.0f} s)",
                flush=True,
            )
    report([choice for _, choice, _ in trials], [found for *_, found in trials])
    if autogluon is not None:
        print(f"AutoGluon's weights are those of greedy in {np.mean(autogluon.same):.1%} of task-seeds")


def _mean(choice: Choice, loss: NDArray[np.float64]) -> float:
    return float(np.sqrt(loss.mean()) if choice.metric == "rmse" else loss.mean())


def report(choices: list[Choice], found: list[dict[str, NDArray[np.float64]]]) -> None:
    ways = list(found[0])
    print(f"\n{len(found)} task-seeds; decisions: {dict(Counter(choice.decision for choice in choices))}")
    print(f"recommended: {dict(Counter(choice.recommended for choice in choices).most_common(8))}")
    for way in ways[1:]:
        outcomes = Counter(_outcome(one["quorate"], one[way]) for one in found)
        print(f"quorate beside {way:12} wins {outcomes[1]}, ties {outcomes[0]}, losses {outcomes[-1]}")
    better = [min((one["best single"], one["uniform"]), key=lambda loss: float(loss.mean())) for one in found]
    worse = {
        way: np.mean([_outcome(one[way], two) < 0 for one, two in zip(found, better, strict=True)]) for way in ways
    }
    listed = ", ".join(f"{way} {share:.1%}" for way, share in worse.items())
    print(f"worse than the better of best single and uniform by more than a standard error: {listed}")
    far = {way: np.mean([_beyond(one[way], two) for one, two in zip(found, better, strict=True)]) for way in ways}
    listed = ", ".join(f"{way} {share:.1%}" for way, share in far.items())
    print(f"the same, by more than the standard error of the better one's own mean loss: {listed}")
    ways.remove("judged")  # a stage of the first
    means = np.array([[one[way].mean() for way in ways] for one in found])
    ranks = np.apply_along_axis(rankdata, 1, means).mean(axis=0)
    count, size = means.shape
    critical = studentized_range.ppf(0.95, size, np.inf) / np.sqrt(2) * np.sqrt(size * (size + 1) / (6 * count))
    listed = ", ".join(
        f"{way} {rank:.2f}" for way, rank in sorted(zip(ways, ranks, strict=True), key=lambda one: one[1])
    )
    print(f"mean ranks: {listed}; critical difference (Nemenyi, 95 %) {critical:.2f}")
    if count > 2:
        print(f"all alike (Friedman): p = {friedmanchisquare(*means.T).pvalue:.2g}")


def _outcome(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> int:
    """1 where ours is better by more than a standard error of the paired difference, -1 where worse, else 0."""
    gain = theirs - ours
    least = max(gain.std(ddof=1) / np.sqrt(len(gain)), ROUNDING * theirs.mean())
    return int(gain.mean() > least) - int(gain.mean() < -least)


def _beyond(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> bool:
    """Whether our mean loss is more than one standard error of theirs above theirs."""
    return bool(ours.mean() > theirs.mean() + theirs.std(ddof=1) / np.sqrt(len(theirs)))


if __name__ == "__main__":
    main()
