"""How often does the verdict claim a gain that is not there, and how often does it find one that is?

    python benchmarks/claims.py [--rows 20 50 100 400 2000] [--trials 100] [--worlds exact ...]

Worlds are simulated, so what is true is known. Members see the true logits of three classes under noise of their own;
as many rows are solved on as are judged on. In ``exact`` and ``sharp`` one member knows the true probabilities and
nothing can be better; in ``permuted`` labels are drawn anew; in ``small`` and ``large`` equally noisy members gain by
being averaged; ``groups`` is ``exact`` with five equal rows a group, told to the verdict. Beside it stands what was
done before: tuned weights against the best member by the paired bootstrap on the judging rows, 95 %, two sides. And no
verdict may be "do not ensemble" while an ensemble is better beyond chance: such ones are counted.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from quorate.fusion.evaluation.significance import paired_bootstrap
from quorate.tuning import Choice, Outputs, choose, simplex_weights
from quorate.tuning.evaluation.verdict import SAME
from quorate.tuning.scoring import true_class

NAMES, CLASSES, A_GROUP = ("a", "b", "c"), 3, 5
Random = np.random.Generator
Rows = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True)
class World:
    """What is simulated, and whether an ensemble is truly better than the best member."""

    draw: Callable[[Random, int], Rows]
    gain: bool
    grouped: bool = False


def rows(random: Random, count: int, noise: tuple[float, ...], sharp: tuple[float, ...] = (1, 1, 1)) -> Rows:
    truth = random.normal(0, 1.5, (count, CLASSES))
    labels = (softmax(truth, axis=1).cumsum(axis=1) > random.random((count, 1))).argmax(axis=1)
    seen = [factor * (truth + random.normal(0, one, truth.shape)) for one, factor in zip(noise, sharp, strict=True)]
    return softmax(np.stack(seen), axis=2).astype(np.float32), labels


def permuted(random: Random, count: int) -> Rows:
    probs, labels = rows(random, count, (1, 1, 1), (2, 2, 2))
    return probs, random.permutation(labels)


def grouped(random: Random, count: int) -> Rows:
    """Rows of a group are alike in what they are and how members err."""
    probs, labels = rows(random, -(-count // A_GROUP), (0, 0.5, 0.5))
    return probs.repeat(A_GROUP, axis=1)[:, :count], labels.repeat(A_GROUP)[:count]


WORLDS = {
    "exact": World(lambda random, count: rows(random, count, (0, 1, 1)), gain=False),
    "sharp": World(lambda random, count: rows(random, count, (0, 0.5, 0.5), (1, 2, 2)), gain=False),
    "permuted": World(permuted, gain=False),
    "groups": World(grouped, gain=False, grouped=True),
    "small": World(lambda random, count: rows(random, count, (0.6, 0.6, 0.6)), gain=True),
    "large": World(lambda random, count: rows(random, count, (1, 1, 1)), gain=True),
}


def before(solve: Outputs, judge: Outputs) -> bool:
    weights = simplex_weights(solve.probs, solve.labels).values
    best = int(np.log(true_class(solve.probs, solve.labels)).mean(axis=1).argmax())
    columns = true_class(judge.probs, judge.labels)
    return paired_bootstrap(-np.log(columns[best]), -np.log(weights @ columns)).low > 0


def trial(world: World, count: int, seed: int) -> tuple[Choice, bool]:
    """The verdict, and whether an ensemble was claimed before."""
    random = np.random.default_rng(seed)
    halves = []
    for half in range(2):
        probs, labels = world.draw(random, count)
        groups = np.arange(count) // A_GROUP + half * count if world.grouped else None
        halves.append(Outputs(NAMES, probs, labels, groups=groups))
    return choose(*halves, seed=seed, refit=False), before(*halves)


def contradicts_itself(choice: Choice) -> bool:
    """Whether one member is recommended while its own intervals say that an ensemble is better."""
    ensembles = [one for one in choice.alternatives.values() if one.kind == "ensemble"]
    return choice.decision == "single" and any(one.gain.high < -SAME for one in ensembles)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", type=int, default=[20, 50, 100, 400, 2000], help="to judge on")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    verdicts = contradictions = 0
    print(f"{'world':10} {'rows':>5} {'trials':>6}  an ensemble is better   claimed   claimed before   decisions")
    for name in arguments.worlds:
        for count in arguments.rows:
            started = time.perf_counter()
            found = [trial(WORLDS[name], count, seed) for seed in range(arguments.trials)]
            decisions = Counter(choice.decision for choice, _ in found)
            verdicts += len(found)
            contradictions += sum(contradicts_itself(choice) for choice, _ in found)
            claimed, was = decisions["ensemble"] / len(found), sum(old for _, old in found) / len(found)
            truth = "yes" if WORLDS[name].gain else "no"
            shown = ", ".join(f"{key} {value}" for key, value in sorted(decisions.items()))
            shown += f" ({(time.perf_counter() - started) / len(found):.1f} s)"
            print(
                f"{name:10} {count:5} {len(found):6}  {truth:21}   {claimed:7.1%}   {was:14.1%}   {shown}", flush=True
            )
    print(f"one member recommended while an ensemble is better beyond chance: {contradictions} of {verdicts}")


if __name__ == "__main__":
    main()
