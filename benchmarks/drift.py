"""Drift that is planted into real streams of texts: how soon it is found, who is named, and what comes back by itself.

    OMP_NUM_THREADS=1 python benchmarks/drift.py --data DIR [--only sms-spam banking77 quiet]

Members are fitted to half of the rows, weights are solved on a tenth, a fifth is the reference, and the rest is asked
over and over in random order. Labels come up to 500 answers late. From the 3,000th answer on

- a member is broken: the one with most weight is given other rows;
- a class of a member is renamed: its version has the two most frequent classes the other way round;
- a class is renamed: what was the most frequent class is labelled as the second one from then on.

What online weights, and classes that are answered by what labels call them, bring back is said beside it. ``quiet``
asks in 100 streams of each without a plant what would have gone live, also of permuted labels, and for false alarms,
beside those of ADWIN and Page-Hinkley (river, where it is installed) on the same numbers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent)]

from benchmarks.gain_tasks import banking77, of_text, sms_spam  # noqa: E402
from quorate.deployments.learning.drift.monitor import Monitor, Settings  # noqa: E402
from quorate.deployments.learning.drift.naming import Named, describe  # noqa: E402
from quorate.deployments.learning.drift.reference import (  # noqa: E402
    KINDS,
    Reference,
    numbers_of,
    reference_of,
    scaled,
    statistics_of,
)
from quorate.deployments.learning.drift.rows import Rows, Subject  # noqa: E402
from quorate.deployments.learning.drift.sequential_tests import Change  # noqa: E402
from quorate.deployments.learning.online.history import History, LabelTimes, live_through  # noqa: E402
from quorate.deployments.learning.online.relabelling.likely import Likely  # noqa: E402
from quorate.deployments.learning.online.relabelling.matrix import Relabels, answers_by  # noqa: E402
from quorate.tuning.solvers.simplex import simplex_weights  # noqa: E402

BEFORE, AFTER, LATE, QUIET = 3000, 5000, 500, 100
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass
class Ensemble:
    """Members over rows that none was fitted to.

    Attributes:
        probs: (N, M, C) of the rows that are asked, and their truth (N,).
        weights: (M,) that are live at first.
        common: the two most frequent classes.
    """

    subject: Subject
    probs: NDArray[np.float32]
    truth: Labels
    weights: Floats
    reference: Reference
    common: tuple[int, int]


@dataclass
class Stream:
    """Answers in their order, (N, M, C), and what their labels say, which come after so many answers."""

    probs: NDArray[np.float32]
    truth: Labels
    came: Labels


def fitted(table: tuple[NDArray[np.object_], Labels], names: list[str]) -> Ensemble:
    random = np.random.default_rng(0)
    rows, truth = table
    order = random.permutation(len(rows))
    fit, solve, known, asked = np.split(order, [len(rows) // 2, len(rows) * 6 // 10, len(rows) * 8 // 10])
    models = {name: model.fit(rows[fit], truth[fit]) for name, model in of_text(0).items()}

    def said(part: NDArray[np.intp]) -> NDArray[np.float32]:
        return np.stack([model.predict_proba(rows[part]) for model in models.values()], 1).astype(np.float32)

    weights = np.asarray(simplex_weights(said(solve).transpose(1, 0, 2), truth[solve]).values, np.float64)
    subject = Subject("classification", tuple(models), tuple(names))
    reference = reference_of(
        subject, list(KINDS.values()), [as_rows(said(known), weights, 0, truth[known])], "rows", "first"
    )
    first, second = np.argsort(-np.bincount(truth))[:2].tolist()
    return Ensemble(subject, said(asked), truth[asked], weights, reference, (first, second))


def as_rows(
    probs: NDArray[np.float32], weights: Floats, start: int, truth: Labels | None = None, answers: Floats | None = None
) -> Rows:
    """(N, M, C) as drift looks at it, with (N, C) answers where these are not of the weights."""
    count = len(probs)
    fused = (np.einsum("nmc,m->nc", probs, weights) if answers is None else answers).astype(np.float32)
    states, there = np.zeros(probs.shape[1::-1], np.uint8), np.ones(count, np.bool_)
    return Rows(
        probs.transpose(1, 0, 2),
        states,
        fused,
        there,
        np.arange(count),
        np.arange(start, start + count, dtype=np.float64),
        truth,
    )


def streamed(of: Ensemble, random: np.random.Generator, rows: int) -> Stream:
    places = random.integers(0, len(of.truth), rows)
    came = np.arange(rows) + random.integers(1, LATE + 1, rows)
    return Stream(of.probs[places], of.truth[places].copy(), came)


def break_member(of: Ensemble, stream: Stream) -> str:
    member = int(of.weights.argmax())
    stream.probs[BEFORE:, member] = np.roll(stream.probs[BEFORE:, member], 1, axis=0)
    return of.subject.members[member]


def rename_in_member(of: Ensemble, stream: Stream) -> str:
    member, (one, other) = int(of.weights.argmax()), of.common
    swapped = stream.probs[BEFORE:, member].copy()
    swapped[:, [one, other]] = swapped[:, [other, one]]
    stream.probs[BEFORE:, member] = swapped
    return of.subject.members[member]


def rename_class(of: Ensemble, stream: Stream) -> str:
    one, other = of.common
    after = stream.truth[BEFORE:]
    after[after == one] = other
    return of.subject.classes[one]


PLANTS: dict[str, Callable[[Ensemble, Stream], str]] = {
    "a member is broken": break_member,
    "a class of a member is renamed": rename_in_member,
    "a class is renamed": rename_class,
}


def watched(
    of: Ensemble, stream: Stream, answers: Floats | None = None, since: int = -1
) -> tuple[list[tuple[int, Change, list[Named]]], Monitor]:
    """Changes by after how many answers they were known, with who was named then.

    Args:
        answers: (N, C) what was live, where that is not of the first weights.
        since: from which answer on another revision gives them, of whose answers doors learn what is usual.
    """
    monitor = Monitor(of.subject, Settings(), of.reference, "first")
    order = np.argsort(stream.came, kind="stable")
    found: list[tuple[int, Change, list[Named]]] = []
    for start in range(0, len(stream.truth), 20):
        rows = slice(start, start + 20)
        if start <= since < start + 20:
            old, monitor = monitor, Monitor(of.subject, Settings(), of.reference, "another")
            monitor.carry_on(old)
        lived = None if answers is None else answers[rows]
        changes = monitor.see(as_rows(stream.probs[rows], of.weights, start, answers=lived))
        due = order[(stream.came[order] > start) & (stream.came[order] <= start + 20)]
        if len(due):
            lived = None if answers is None else answers[due]
            told = as_rows(stream.probs[due], of.weights, start, stream.truth[due], lived)
            changes += monitor.see(replace(told, said=(due >= since) | (since > start)))
        found += [(start + 20, one, monitor.named()) for one in changes if one.raised]
    return found, monitor


def plant(name: str, of: Ensemble) -> None:
    for kind, planted in PLANTS.items():
        stream = streamed(of, np.random.default_rng(1), BEFORE + AFTER)
        who = planted(of, stream)
        found, monitor = watched(of, stream)
        false = [one for at, one, _ in found if at <= BEFORE]
        after = [(at - BEFORE, one, names) for at, one, names in found if at > BEFORE]
        print(f"\n{name}: {kind} ({who}) after {BEFORE} answers; {len(false)} false alarms before")
        if after:
            at, one, _ = after[0]
            print(f"first alarm after {at} answers: {describe(one.statistic)}, {one.reference:.3g} to {one.recent:.3g}")
        right = [
            at for at, _, names in after if any(who in (one.member, *one.about) and not one.alike for one in names)
        ]
        others = {
            one.member
            for one in monitor.named()
            if one.member and one.member != who and not one.alike and "class is" not in kind
        }
        said = "; ".join(
            f"{one.member or 'answers'} {one.kind}{f' of {len(one.about)} classes' if one.about else ''}"
            f"{', most members alike' if one.alike else ''}"
            for one in monitor.named()
        )
        print(f"named {who} after {right[0] if right else 'never'} answers; others named: {sorted(others) or 'none'}")
        print(f"at the end: {said}", flush=True)
        beside(of, stream)
        recovered(of, stream)


def _is(who: str, one: Named) -> bool:
    """Whether that is the member, or the class, that has changed."""
    return who in (one.member, *one.about) and not one.alike


def learned_from(of: Ensemble, stream: Stream) -> History:
    """What online weights, and what classes are called, come to on a stream."""
    order = np.argsort(stream.came, kind="stable")
    cells = stream.probs[np.arange(len(stream.truth)), :, stream.truth].astype(np.float64)
    there = np.ones(cells.shape, np.bool_)
    likely = Likely.of(stream.probs.transpose(1, 0, 2), there, stream.truth)
    times = LabelTimes(order, stream.came[order])
    return live_through(
        "fused", of.subject.members, of.weights, times, cells[order], there[order], stream.truth[order],
        likely[order], of.subject.classes,
    )  # fmt: skip


def recovered(of: Ensemble, stream: Stream) -> None:
    found, every = learned_from(of, stream), np.arange(len(stream.truth))
    live = found.live_at(every)
    assert live is not None
    first = np.tile(of.weights, (len(every), 1)), [Relabels()] * len(every)
    ways = first, (found.learned_at(every), found.learned_names_at(every)), (live, found.live_names_at(every))
    print("| answers | first weights | learned | live |\n|---|---|---|---|")
    for part in (slice(0, BEFORE), slice(BEFORE, BEFORE + 1000), slice(BEFORE + 1000, None)):
        told = []
        for weights, called in ways:
            fused = answers_by(called[part], np.einsum("nmc,nm->nc", stream.probs[part], weights[part]))
            given = fused[np.arange(len(fused)), stream.truth[part]]
            right = (fused.argmax(axis=1) == stream.truth[part]).mean()
            told.append(f"{-np.log(np.maximum(given, 1e-15)).mean():.3f} nats, {right:.3f} right")
        stop = part.stop or len(every)
        print(f"| {part.start} to {stop} | {' | '.join(told)} |")
    for one in found.changes:
        what = "taken back" if one.taken_back else "published"
        names = f"; classes called otherwise: {dict(one.relabel)}" if one.relabel else ""
        print(f"{what} after {one.time_us} answers, {one.gain:+.3f} nats a row{names}", flush=True)
    if any(one.relabel for one in found.changes):
        fused = answers_by(ways[2][1], np.einsum("nmc,nm->nc", stream.probs, live))
        since = next(one.time_us for one in found.changes if one.relabel)
        alarms, monitor = watched(of, stream, fused, since)
        later = sum(at > since for at, one, _ in alarms if not one.statistic.members)
        who = ", ".join(f"{one.member or 'answers'} {one.kind}" for one in monitor.named()) or "nobody"
        print(f"{later} alarms of answers after these are live; at the end: {who}", flush=True)


def beside(of: Ensemble, stream: Stream) -> None:
    """What detectors without a reference say of the same numbers, those that need no labels."""
    for called, make in _river().items():
        found = [at for numbers in _scaled(of, stream).T for at in _alarms(make(), numbers)]
        after = [at - BEFORE for at in found if at >= BEFORE]
        first = f"the first after {min(after)} answers" if after else "none after"
        print(f"{called} on each number: {sum(at < BEFORE for at in found)} alarms before, {first}", flush=True)


def _scaled(of: Ensemble, stream: Stream) -> Floats:
    """(N, S) numbers of answers as tests are given them."""
    kinds = [kind for kind in KINDS.values() if not kind.labelled]
    every = statistics_of(of.subject, kinds)
    places = [at for at, one in enumerate(every) if one in of.reference.known]
    known = [of.reference.known[every[at]] for at in places]
    numbers = numbers_of(of.subject, kinds, as_rows(stream.probs, of.weights, 0))[:, places]
    lowest, width = (np.array([getattr(one, name) for one in known]) for name in ("lowest", "width"))
    return scaled(numbers, lowest, width)


def quiet(name: str, of: Ensemble, rows: int = 1000) -> None:
    """False alarms of streams in which nothing changes."""
    detectors = _river()
    mine, count, live, called, noise = 0, 0, 0, 0, 0
    theirs = dict.fromkeys(detectors, 0)
    for seed in range(QUIET):
        stream = streamed(of, np.random.default_rng(1000 + seed), rows)
        found, _ = watched(of, stream)
        mine += bool(found)
        changes = learned_from(of, stream).changes
        live, called = live + bool(changes), called + any(one.relabel for one in changes)
        permuted = replace(stream, truth=np.random.default_rng(seed).permutation(stream.truth))
        noise += bool(learned_from(of, permuted).changes)
        numbers = _scaled(of, stream)
        count = numbers.shape[1]
        for detector, make in detectors.items() if seed < 20 else ():
            theirs[detector] += any(_alarms(make(), column) for column in numbers.T)
    print(f"\n{name}: an alarm in {mine} of {QUIET} streams of {rows} answers and labels")
    print(f"weights would have gone live in {live}, a class of another name in {called} of them")
    print(f"with labels that are permuted anything would have in {noise}")
    for name, erred in theirs.items():
        print(f"{name} on each of {count} numbers without labels: in {erred} of 20 streams", flush=True)


def _river() -> dict[str, Callable[[], Any]]:
    if find_spec("river") is None:
        return {}
    from river import drift

    return {"ADWIN": drift.ADWIN, "Page-Hinkley": drift.PageHinkley}


def _alarms(detector: Any, numbers: Floats) -> list[int]:
    """The places of alarms."""
    found = []
    for at in np.flatnonzero(~np.isnan(numbers)).tolist():
        detector.update(float(numbers[at]))
        if detector.drift_detected:
            found.append(at)
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True, help="folder of sms-spam and banking77")
    options.add_argument("--only", nargs="+", choices=["sms-spam", "banking77", "quiet"], default=[])
    arguments = options.parse_args()
    only = set(arguments.only)
    for name, read in (("sms-spam", sms_spam), ("banking77", banking77)):
        if only - {"quiet"} and name not in only:
            continue
        table = read(arguments.data / name)
        names = ["ham", "spam"] if name == "sms-spam" else class_names(arguments.data / name)
        of = fitted(table, names)
        if "quiet" not in only:
            plant(name, of)
        if not only or "quiet" in only:
            quiet(name, of)


def class_names(folder: Path) -> list[str]:
    from pyarrow import csv

    table = csv.read_csv(folder / "banking_data" / "train.csv").to_pandas()
    return sorted(set(table["category"]))


if __name__ == "__main__":
    main()
