"""Weights that learn from labels: what they lose on streams, how soon they follow a change, and how fast they are.

    OMP_NUM_THREADS=1 python benchmarks/online.py [--data DIR] [--only abrupt banking77]

Streams of ten members whose skills are the same all along, change in the middle or little by little, with labels up
to so many answers late: the regret beside its bound, and how far the weights are from the new best mixture after 500
labels of rows after the change, by 20,000 rows of their own. Then what the guard lets through where skills change to
and fro, the first weights being the best for one half of the time; and labels that are permuted, which must publish
nothing.

With data: texts. Members are fitted to a half, the weights that are live at first are solved on a tenth, and the rest
is asked twice over in another order. From the middle on the member with most weight is broken: it is given other rows.
Labels come up to 500 answers late.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent)]

from benchmarks.gain_tasks import banking77, of_text, sms_spam  # noqa: E402
from quorate.deployments.learning.online.history import History, LabelTimes, live_through  # noqa: E402
from quorate.deployments.learning.online.learner import Learner, Start  # noqa: E402
from quorate.deployments.learning.online.mixture import OnlineMixture, pooled  # noqa: E402
from quorate.deployments.learning.online.relabelling.likely import Likely  # noqa: E402
from quorate.tuning.solvers.simplex import simplex_weights  # noqa: E402
from tests.deployments.support.label_streams import Stream, skills, stream  # noqa: E402

DRIFTS = ("none", "abrupt", "slow", "missing", "abrupt, missing")


def lived(data: Stream, pinned: NDArray[np.float64], names: list[str]) -> History:
    order, _ = data.in_order_of_labels()
    labels = LabelTimes(order, data.came[order])
    return live_through("fused", names, pinned, labels, data.cells[order], data.present[order], data.truth[order])


def rate() -> None:
    for members in (3, 10, 50):
        random = np.random.default_rng(0)
        data = stream(random, skills(random, 20_000, members))
        found = []
        for _ in range(3):
            learner, started = OnlineMixture(np.ones(members)), time.process_time()
            learner.learn(data.cells)
            found.append(20_000 / (time.process_time() - started))
        print(f"{members} members: {statistics.median(found):,.0f} labels a second of CPU", flush=True)
    for classes in (5, 77):
        found = [_whole_rate(classes) for _ in range(3)]
        said = f"{statistics.median(found):,.0f} labels a second of CPU, with what they are called and tests of it"
        print(f"10 members, {classes} classes: {said}", flush=True)


def _whole_rate(classes: int, rows: int = 20_000) -> float:
    """Of all that a running ensemble does of labels that have been read, in batches of a thousand."""
    random = np.random.default_rng(0)
    data = stream(random, skills(random, rows, 10) + 2, classes=classes)
    names = tuple(str(one) for one in range(10))
    learner = Learner(Start("fused", names, np.ones(10), classes=tuple(map(str, range(classes))), at_once=False))
    cells, times, started = data.cells, np.arange(rows), time.process_time()
    for at in range(0, rows, 1000):
        part = slice(at, at + 1000)
        likely = Likely.of(data.probs[part].transpose(1, 0, 2), data.present[part], data.truth[part])
        labels = LabelTimes(times[part], data.came[part])
        learner.take(labels, data.truth[part], cells[part], data.present[part], likely)
    return rows / (time.process_time() - started)


def streams(drifts: Sequence[str], rows: int = 20_000) -> None:
    names = [f"m{k}" for k in range(10)]
    print("| drift | late by | nats a row | best member | bound | best mixture | bound | by delay | after 500 |")
    print("|---|---|---|---|---|---|---|---|---|")
    for drift in drifts:
        for delay in (1, 10, 100, 1000):
            random = np.random.default_rng(delay)
            shape = next((one for one in ("abrupt", "slow") if one in drift), "none")
            skill = skills(random, rows, drift=shape)
            data = stream(random, skill, delay=delay, missing=0.1 * ("missing" in drift))
            found = lived(data, np.full(10, 0.1), names)
            after = f"{_after(random, data, skill, found.weights):.4f}" if "abrupt" in drift else ""
            told = [f"{found.end.loss - one.loss:+.0f} | {one.bound:.0f}" for one in found.end.rivals[:2]]
            within = all(found.end.loss - one.loss <= one.bound for one in found.end.rivals)
            late = f"{found.end.stale:.0f}"
            row = [drift, str(delay), f"{found.end.loss / rows:.4f}", *told, late, after]
            print(f"| {' | '.join(row)} |{'' if within else ' ABOVE ITS BOUND'}", flush=True)


def _after(
    random: np.random.Generator, data: Stream, skill: NDArray[np.float64], weights: NDArray[np.float64]
) -> float:
    """How far weights are from the best mixture after the change, when 500 labels of rows after it have come."""
    large = stream(random, np.tile(skill[-1], (20_000, 1)))
    best = simplex_weights(large.probs.transpose(1, 0, 2), large.truth).score
    order, _ = data.in_order_of_labels()
    place = int(np.flatnonzero(np.cumsum(order >= len(order) // 2) == 500)[0])
    return float(-np.log(large.cells @ weights[place + 1]).mean() - best)


def followed(rows: int = 8000, seeds: range = range(200, 240)) -> None:
    """The same on streams that no number was chosen by: those were 1,000 to 1,079."""
    print("| missing | late by | within .01 | median | most |\n|---|---|---|---|---|")
    for missing in (0.0, 0.1):
        for delay in (1, 10, 100, 1000):
            found = []
            for seed in seeds:
                random = np.random.default_rng(seed)
                skill = skills(random, rows, drift="abrupt")
                data = stream(random, skill, delay=delay, missing=missing)
                order, _ = data.in_order_of_labels()
                learner = OnlineMixture(np.ones(10))
                weights = learner.learn(data.cells[order], data.present[order], order).weights
                found.append(_after(random, data, skill, weights))
            near = f"{sum(one <= 0.01 for one in found)} of {len(found)}"
            print(f"| {missing:g} | {delay} | {near} | {statistics.median(found):.4f} | {max(found):.4f} |", flush=True)


def guard() -> None:
    """The most that what is live costs above the pinned weights, over any 2,000 answers in a row."""
    print("| changes every | late by | published | taken back | worst 2,000 answers, nats a row | won in all |")
    print("|---|---|---|---|---|---|")
    for every in (500, 1000, 2500, 10_000):
        for delay in (1, 100, 1000):
            worst, published, back, won = -1.0, 0, 0, 0.0
            for seed in range(5):
                random = np.random.default_rng(seed)
                good, other = random.uniform(0, 3, size=(2, 5))
                skill = np.where(np.arange(20_000)[:, None] // every % 2, other, good)
                data = stream(random, skill, delay=delay)
                before = stream(random, np.tile(good, (5000, 1)))
                pinned = solved(before.probs, before.truth)
                found = lived(data, pinned, list("abcde"))
                live = found.live_at(np.arange(len(data.truth)))
                assert live is not None
                lost = np.log(pooled(pinned, data.cells, data.present) / pooled(live, data.cells, data.present))
                sums = np.concatenate([[0.0], np.cumsum(lost)])
                worst = max(worst, float((sums[2000:] - sums[:-2000]).max()) / 2000)
                published += sum(not one.taken_back for one in found.changes)
                back += sum(one.taken_back for one in found.changes)
                won -= float(lost.mean()) / 5
            print(f"| {every} | {delay} | {published} | {back} | {worst:+.4f} | {won:.3f} |", flush=True)


def permuted() -> None:
    wrong = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        data = stream(random, skills(random, 1000, 5), classes=3, delay=100)
        data.truth = random.permutation(data.truth)
        wrong += bool(lived(data, random.dirichlet(np.ones(5)), list("abcde")).changes)
    print(f"permuted labels: {wrong} of 100 streams of 1,000 published", flush=True)


def texts(name: str, table: tuple[NDArray[np.object_], NDArray[np.int64]]) -> None:
    random = np.random.default_rng(0)
    rows, truth = table
    order = random.permutation(len(rows))
    fit, tune, asked = np.split(order, [len(rows) // 2, len(rows) * 6 // 10])
    models = {name: model.fit(rows[fit], truth[fit]) for name, model in of_text(0).items()}
    pinned = solved(np.stack([model.predict_proba(rows[tune]) for model in models.values()], 1), truth[tune])
    asked = np.concatenate([asked, random.permutation(asked)])
    probs = np.stack([model.predict_proba(rows[asked]) for model in models.values()], axis=1)
    half, broken = len(asked) // 2, int(pinned.argmax())
    probs[half:, broken] = np.roll(probs[half:, broken], 1, axis=0)
    came = np.arange(len(asked)) + random.integers(1, 501, len(asked))
    data = Stream(probs, truth[asked], np.ones(probs.shape[:2], np.bool_), came)
    found = lived(data, pinned, list(models))
    print(f"\n{name}: {len(asked)} rows, {list(models)[broken]} broken from {half} on")
    live, learned = found.live_at(np.arange(len(asked))), found.learned_at(np.arange(len(asked)))
    assert live is not None
    print("| rows | first weights | learned | live | best mixture of these rows |\n|---|---|---|---|---|")
    for part in (slice(0, half), slice(half, half + 1000), slice(half + 1000, len(asked))):
        cells, there = data.cells[part], data.present[part]
        losses = [-np.log(pooled(w, cells, there)).mean() for w in (pinned, learned[part], live[part])]
        best = -np.log(pooled(solved(probs[part], data.truth[part]), cells, there)).mean()
        print(f"| {part.start} to {part.stop} | {' | '.join(f'{one:.4f}' for one in [*losses, best])} |")
    for one in found.changes:
        what = "taken back" if one.taken_back else "published"
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in zip(models, one.weights, strict=True))
        print(f"label {one.labels}, answer {one.time_us}: {what}, {one.gain:+.3f} nats a row; {weights}", flush=True)
    for rival in found.end.rivals:
        print(f"against {rival.name}: {found.end.loss - rival.loss:+.1f} nats in all, at most {rival.bound:.1f}")


def solved(probs: NDArray[np.float64], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(simplex_weights(probs.transpose(1, 0, 2), truth).values, np.float64)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, help="folder of sms-spam and banking77")
    options.add_argument(
        "--only", nargs="+", choices=["rate", *DRIFTS, "followed", "guard", "permuted", "sms-spam", "banking77"]
    )
    arguments = options.parse_args()

    def wanted(part: str) -> bool:
        return part in (arguments.only or [part])

    if wanted("rate"):
        rate()
    if drifts := [drift for drift in DRIFTS if wanted(drift)]:
        streams(drifts)
    if wanted("followed"):
        followed()
    if wanted("guard"):
        guard()
    if wanted("permuted"):
        permuted()
    if arguments.data and wanted("sms-spam"):
        texts("sms-spam", sms_spam(arguments.data / "sms-spam"))
    if arguments.data and wanted("banking77"):
        texts("banking77", banking77(arguments.data / "banking77"))


if __name__ == "__main__":
    main()
