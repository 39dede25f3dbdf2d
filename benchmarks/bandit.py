"""A bandit that learns whom to ask: what it asks and how right it is when members change, and whether its floor holds.

    python benchmarks/bandit.py [--draws 1000] [--data DIR] [--only rate changes floor permuted mnist]

A stream is a service without one: the live bandit chooses whom to ask of each row, its label comes a hundred rows
later, and what was learned goes live at once. ``useless``: both dear members become as right as chance.
``broken``: the cheap one does, and goes on saying how sure it is. ``same``: nothing changes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.guarantees import MEMBERS, STAGES, predicted
from quorate.deployments.learning.online.bandit.learner import BanditLearner
from quorate.deployments.learning.online.bandit.rows import ToldRows
from quorate.fusion import Bandit, fit_bandit, proven_price
from tests.deployments.support.policy_streams import BROKEN, USELESS, Served, World, fitted, served

EXPLORE, MAX_LOSS = 0.05, 0.02
WORLDS = {"same": World(), "useless": USELESS, "broken": BROKEN}
HEAD = "| world | rows | calls | accuracy | nothing learned: calls | accuracy | everybody's |\n" + "|---" * 7 + "|"
PARTS = ("before", "first 2,000 after", "last 2,000")


def rate() -> None:
    random, taken = np.random.default_rng(0), list[ToldRows]()
    rule = fitted(World(), random)
    served(rule, [(World(), 20_000)], random, taken=taken)
    seconds = []
    for _ in range(3):
        learner = BanditLearner("fused", rule)
        started = time.process_time()
        for rows in taken:
            learner.take(rows)
        seconds.append(time.process_time() - started)
    print(f"{learner.labels / np.median(seconds):,.0f} labels learned from in a second of one core, three members")


def mean(columns: Iterable[NDArray[Any]]) -> float:
    return float(np.mean([column.mean() for column in columns]))


def told(name: str, streams: list[Served], rule_alone: list[Served], change: int, rows: int) -> None:
    parts = (slice(0, change), slice(change, change + 2000), slice(rows - 2000, rows))
    for part, said in zip(parts, PARTS, strict=True):
        cells = [
            f"{mean(one.calls[part] for one in found):.2f} | {mean(one.right[part] for one in found):.4f}"
            for found in (streams, rule_alone)
        ]
        whole = mean(one.whole[part] for one in streams)
        print(f"| {name} | {said} | {' | '.join(cells)} | {whole:.4f} |")
    first = [next((c["labels"] for c in one.changes if c["time_us"] >= change), None) for one in streams]
    after = sorted(at - change for at in first if at is not None)
    back = sum(c["taken_back"] for one in streams for c in one.changes)
    count = sum(len(one.changes) for one in streams)
    print(
        f"    {name}: first went live after {after[len(after) // 2] if after else 'no'} labels (half of "
        f"{len(after)} of {len(streams)} streams); {count} changes, {back} of them back", flush=True,
    )  # fmt: skip


def changes(streams: range, before: int = 4000, after: int = 12_000) -> None:
    print(f"{len(streams)} streams of {before} and {after} rows, explore {EXPLORE}, max_loss {MAX_LOSS}")
    print(HEAD)
    for name, world in WORLDS.items():
        both: tuple[list[Served], list[Served]] = ([], [])
        for seed in streams:
            for found, learns in zip(both, (True, False), strict=True):
                random = np.random.default_rng(seed)
                rule = fitted(World(), random, EXPLORE, MAX_LOSS)
                found.append(served(rule, [(World(), before), (world, after)], random, learns=learns))
        told(name, *both, before, before + after)


def lost(rule: Bandit, world: World, random: np.random.Generator, rows: int = 20_000) -> float:
    outputs, truth = world.rows(rows, random)
    chances = rule.chances(outputs, torch.ones(outputs.shape[:2], dtype=torch.bool))
    right = (rule.answers(outputs).argmax(dim=2) == torch.from_numpy(truth)).double().T
    return float((right[:, rule.everyone] - (chances * right).sum(dim=1)).mean())


def floor(draws: int, rows: int = 6000) -> None:
    """Of what is live in the end, on 20,000 new rows of the world that there is then."""
    for name, world in WORLDS.items():
        learned, losses, asked = list[bool](), list[float](), list[float]()
        for seed in range(draws // len(WORLDS) + 1):
            random = np.random.default_rng(10_000 + seed)
            rule = fitted(World(), random, EXPLORE, MAX_LOSS)
            found = served(rule, [(World(), 500), (world, rows)], random)
            live = found.learner.publisher.live
            asked.append(float(found.calls[-2000:].mean()))
            learned.append(live is not rule)
            losses.append(lost(live, world, random))
        own, found_losses = np.array(learned), np.array(losses)
        said = "none"
        if own.any():
            said = f"{np.mean(found_losses[own] <= MAX_LOSS):.1%}, {found_losses[own].mean():+.4f} lost on average"
        print(
            f"{name}: {len(asked)} draws, in {own.sum()} a learned bandit is live at the end; of these keep the floor "
            f"of {MAX_LOSS} {said}; of all {np.mean(found_losses <= MAX_LOSS):.1%}; {np.mean(asked):.2f} calls a row",
            flush=True,
        )


def permuted(streams: range, rows: int = 4000) -> None:
    wrong = 0
    for seed in streams:
        random = np.random.default_rng(seed)
        rule = fitted(World(), random, EXPLORE, MAX_LOSS)
        wrong += bool(served(rule, [(World(), rows)], random, permuted=True).changes)
    print(f"permuted labels: {wrong} of {len(streams)} streams of {rows} published", flush=True)


@dataclass
class Stored:
    """Rows that are there, one after the other."""

    said: NDArray[np.float32]
    labels: NDArray[np.int64]
    at: int = 0

    def rows(self, count: int, random: np.random.Generator) -> tuple[torch.Tensor, NDArray[np.int64]]:
        part = slice(self.at, self.at + count)
        self.at += count
        return torch.from_numpy(self.said[:, part]), self.labels[part]


def mnist(folder: Path) -> None:
    said, labels = predicted(folder)
    order = np.random.default_rng(0).permutation(len(labels))
    said, labels, names = said[:, order], labels[order], list(MEMBERS)
    solve, judge, asked = slice(0, 2000), slice(2000, 4000), slice(4000, 34_000)
    sets = [[], *([name] for name in STAGES[1]), STAGES[1][:2], STAGES[1][:3], STAGES[1]]
    rule = fit_bandit(
        names, STAGES[0], sets, torch.from_numpy(said[:, solve]), torch.from_numpy(labels[solve]), explore=EXPLORE
    )
    proven = proven_price(
        rule, torch.from_numpy(said[:, judge]), torch.from_numpy(labels[judge]), max_loss=MAX_LOSS, confidence=0.95
    )
    assert proven is not None
    change, stream, truth = 10_000, said[:, asked].copy(), labels[asked]
    stream[0, change:] = np.roll(stream[0, change:], 1, axis=0)
    both = [
        served(proven, [(Stored(stream, truth), len(truth))], np.random.default_rng(0), learns=learns)
        for learns in (True, False)
    ]
    print(f"MNIST, {len(truth)} rows, {names[0]} broken from {change} on")
    print(HEAD)
    told("mnist", [both[0]], [both[1]], change, len(truth))
    for one in both[0].changes:
        print(one)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("rate", "changes", "floor", "permuted", "mnist")
    options.add_argument("--only", nargs="+", choices=parts, default=parts)
    options.add_argument("--draws", type=int, default=1000)
    options.add_argument("--streams", type=int, default=10, help="of changes; ten times as many of permuted labels")
    options.add_argument("--first", type=int, default=0, help="the seed of the first of them")
    options.add_argument("--data", type=Path, help="the folder that holds mnist")
    arguments = options.parse_args()
    if "rate" in arguments.only:
        rate()
    if "changes" in arguments.only:
        changes(range(arguments.first, arguments.first + arguments.streams))
    if "floor" in arguments.only:
        floor(arguments.draws)
    if "permuted" in arguments.only:
        permuted(range(10 * arguments.first, 10 * (arguments.first + arguments.streams)))
    if "mnist" in arguments.only and arguments.data:
        mnist(arguments.data / "mnist")


if __name__ == "__main__":
    main()
