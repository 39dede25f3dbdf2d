"""Speed of the weight solvers; AutoGluon's EnsembleSelection on the same predictions in the same run.

    python benchmarks/tuning.py [--autogluon PYTHON]

PYTHON is the interpreter of an environment that has autogluon.core (it need not be this one). Times are the median of
``--repeats`` runs with their range, on seeded synthetic predictions: correlated members of different skill.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.tuning import greedy_weights, score_weights, simplex_weights

AUTOGLUON = """
import json, sys, time
import numpy as np
from autogluon.core.metrics import log_loss
from autogluon.core.models.greedy_ensemble.ensemble_selection import EnsembleSelection
data = np.load(sys.argv[1])
probs, labels = list(data["probs"]), data["labels"]
times = []
for _ in range(int(sys.argv[2])):
    started = time.perf_counter()
    fitted = EnsembleSelection(25, "multiclass", log_loss).fit(probs, labels)
    times.append(time.perf_counter() - started)
print(json.dumps({"times": times, "weights": fitted.weights_.tolist()}))
"""


def predictions(members: int, rows: int, classes: int, seed: int = 0) -> tuple[NDArray[Any], NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, rows)
    logits = random.normal(size=(members, rows, classes)) + random.normal(size=(rows, classes))
    logits[:, np.arange(rows), labels] += random.uniform(0.5, 2.5, members)[:, None]
    logits *= random.uniform(0.5, 2.0, members)[:, None, None]
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=-1, keepdims=True)
    return logits, labels


def timed(work: Callable[[], Any], repeats: int) -> tuple[list[float], Any]:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        outcome = work()
        times.append(time.perf_counter() - started)
    return times, outcome


def show(what: str, times: list[float], note: str = "") -> None:
    print(f"{what:58} {statistics.median(times):9.4f} s  ({min(times):.4f} to {max(times):.4f})  {note}", flush=True)


def against_autogluon(python: str, probs: NDArray[Any], labels: NDArray[np.int64], repeats: int) -> None:
    ours, weights = timed(lambda: greedy_weights(probs, labels), max(repeats, 5))
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "data.npz", probs=probs, labels=labels)
        command = [python, "-c", AUTOGLUON, f"{folder}/data.npz", str(repeats)]
        theirs = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    same = np.array_equal(weights.values, theirs["weights"])
    show("AutoGluon EnsembleSelection, N=10k C=10 M=50, 25 rounds", theirs["times"])
    ratios = [theirs_s / ours_s for theirs_s in theirs["times"] for ours_s in ours]
    spread = f"{min(ratios):.0f}x to {max(ratios):.0f}x"
    ratio = statistics.median(theirs["times"]) / statistics.median(ours)
    print(f"{'':58} {ratio:.0f}x ({spread}), weights identical: {same}")


def structure_trials(trials: int = 200) -> None:
    """An architecture search's second phase alone: Ray Tune, Optuna, weights solved inside each trial."""
    import ray

    from quorate.deployments.spec.schema import Resources
    from quorate.tuning.latency.curves import Curve
    from quorate.tuning.search.callbacks import Callbacks
    from quorate.tuning.search.space import SearchSpace
    from quorate.tuning.search.structures.structure import Menu
    from quorate.tuning.search.structures.structure_search import StructureSearch
    from quorate.tuning.search.structures.structure_trial import StructureTrial
    from quorate.tuning.search.structures.table import Column, Table
    from quorate.tuning.search.workers.trial_runner import Phase, run_trials
    from quorate.tuning.search.workers.worker_pool import WorkerPool

    probs, labels = predictions(8, 10_000, 10)
    names = tuple(f"member-{number}" for number in range(8))
    curves = [Curve("cpu", {1: s}, {1: s}, (s,)) for s in np.linspace(5e-4, 4e-3, 8)]
    table = Table(tuple(Column(n, c, 1 << 20) for n, c in zip(names, curves, strict=True)), probs.astype("f4"), labels)
    inside: list[float] = []
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    with tempfile.TemporaryDirectory() as folder:
        search = StructureSearch(
            Path(folder), SearchSpace(), Menu(names), table, objectives=("log_loss", "p95_latency_s"), trials=trials,
            seed=0, parallel=8, sampler="tpe", say=print,
        )  # fmt: skip
        started = time.perf_counter()
        phase = Phase("structures", StructureTrial, table, Resources(num_cpus=1.0))
        with WorkerPool(2, Path(folder)) as pool:
            run_trials(pool, phase, search, Callbacks([], Path(folder)))
        wall = time.perf_counter() - started
    ray.shutdown()
    failed = sum(trial.failure is not None for trial in search.finished.values())
    overhead = (wall - sum(inside) / 2) / trials
    note = f"{overhead:.3f} s a trial beside {statistics.mean(inside):.3f} s of evaluation, {failed} failed"
    show(f"{trials} structure trials on 2 workers, N=10k C=10 M=8", [wall], note)


def own_rules() -> None:
    """The weights of a spec's own rule as tune fits them: on all rows and without each of five folds."""
    from quorate.tuning import Outputs, Recipe
    from quorate.tuning.alternatives.reweighing.reweighted import Reweighted
    from quorate.tuning.data.folds import stratified_folds
    from quorate.tuning.evaluation.metrics.row_metrics import row_metric

    probs, labels = predictions(16, 10_000, 10)
    names = tuple(f"member-{number}" for number in range(16))
    rows, equal = Outputs(names, probs.astype("f4"), labels), dict.fromkeys(names, 1.0)
    stages = {"stages": [list(names[:4]), list(names[4:])], "thresholds": [0.5]}
    for rule, metric in (
        ("weighted_vote", "accuracy"), ("soft_vote", "accuracy"), ("borda", "accuracy"),
        ("reciprocal_rank", "log_loss"), ("dempster_shafer", "log_loss"), ("threshold", "accuracy"),
        ("cascade", "log_loss"),
    ):  # fmt: skip
        incumbent = Recipe(rule, names, equal, stages if rule == "cascade" else {})
        loss = row_metric(metric).loss
        one = Reweighted(incumbent, incumbent, loss)
        parts = [rows, *(rows.rows(rest) for rest, _ in stratified_folds(labels, 5, 0))]
        times, fitted = timed(lambda one=one, parts=parts: tuple(one.fit(part, 0) for part in parts), 1)
        before, after = (loss(rows, recipe.fuse(names, rows.probs)) for recipe in (incumbent, fitted[0]))
        show(f"{rule}, {metric}, N=10k C=10 M=16, six fits", times, f"{abs(before):.4f} to {abs(after):.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--autogluon", metavar="PYTHON", help="compare with autogluon.core of this interpreter")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--structures", action="store_true", help="only the architecture search's 200 structure trials")
    parser.add_argument("--rules", action="store_true", help="only the weights of a spec's own rule")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}")
    if arguments.rules:
        own_rules()
        return
    if arguments.structures:
        structure_trials()
        return
    for rows in (10_000, 100_000):
        probs, labels = predictions(50, rows, 10)
        size = f"N={rows // 1000}k C=10 M=50"
        times, weights = timed(lambda p=probs, y=labels: greedy_weights(p, y), arguments.repeats)
        show(f"greedy log-loss, {size}, 25 rounds", times)
        if rows == 10_000 and arguments.autogluon:
            against_autogluon(arguments.autogluon, probs, labels, min(arguments.repeats, 3))
        times, weights = timed(lambda p=probs, y=labels: simplex_weights(p, y), arguments.repeats)
        show(f"simplex log-loss, {size}", times, f"gap {weights.gap:.0e} nats")
        times, weights = timed(lambda p=probs, y=labels: simplex_weights(p, y, "brier"), arguments.repeats)
        show(f"simplex Brier, {size}", times, f"gap {weights.gap:.0e}")
        times, _ = timed(lambda p=probs, y=labels: greedy_weights(p, y, metric="accuracy"), min(arguments.repeats, 2))
        show(f"greedy accuracy, {size}, 25 rounds", times)
    probs, labels = predictions(8, 10_000, 10)
    candidates = np.random.default_rng(0).dirichlet(np.ones(8), 1_000_000)
    times, _ = timed(lambda: score_weights(probs, labels, candidates), 1)
    show("log-loss of 1,000,000 weight vectors, N=10k C=10 M=8", times)
    times, _ = timed(lambda: score_weights(probs, labels, candidates, "accuracy"), 1)
    show("accuracy of 1,000,000 weight vectors, N=10k C=10 M=8", times)
    structure_trials()


if __name__ == "__main__":
    main()
