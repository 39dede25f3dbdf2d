"""The search for structures over stored predictions, and which of them are worth deploying."""

# M members, N rows, C classes

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.errors import SweepError
from quorate.tuning.scoring import member_losses
from quorate.tuning.search.journal import Finished, Journal
from quorate.tuning.search.sampler import Proposals, SamplerName
from quorate.tuning.search.space import Objective, SearchSpace
from quorate.tuning.search.structures import Menu, Structure, Table, suggest_structure
from quorate.tuning.search.trials import Task, generation
from quorate.tuning.solvers.greedy import greedy_path


class StructureSearch:
    """Proposes structures and takes in what they are worth (``Generations``)."""

    def __init__(
        self,
        folder: Path,
        space: SearchSpace,
        menu: Menu,
        table: Table,
        *,
        objectives: Sequence[Objective],
        trials: int,
        seed: int,
        parallel: int,
        sampler: SamplerName,
        say: Callable[[str], None],
    ):
        """
        Args:
            folder: the run's.
            menu: what structures are made of; ``table`` has its members' predictions and cost.
            objectives: what is to be small, most important first.
            trials: structures to propose in all.
            parallel: structures in a generation.
        """
        self._folder, self._objectives, self._say = folder, tuple(objectives), say
        self._trials, self._parallel, self._seed = trials, parallel, seed
        latency = {column.name: table.latency_s(column.name) for column in table.columns}
        self._proposals = Proposals(
            lambda trial: suggest_structure(trial, space, menu, latency), len(objectives), sampler, seed, parallel
        )
        self._journal = Journal(folder)
        self._made_from = hashlib.sha256(repr((table.columns, menu)).encode()).hexdigest()
        self._recorded, damage = self._journal.read("structures")
        for sentence in damage:
            say(sentence)
        self.finished: dict[int, Finished] = {}
        self._untold: dict[int, Any] = {}
        self._generation = 0

    def next(self) -> list[Task] | None:
        """See ``Generations``. Structures that the journal knows are not run again."""
        while True:
            numbers, before = generation(self._generation, self._parallel, self._trials)
            if not numbers:
                return []
            if any(number not in self.finished for number in before):
                return None
            self._tell(before)
            proposed = self._proposals.ask(self._generation, len(numbers))
            self._generation += 1
            tasks = []
            for number, (trial, structure) in zip(numbers, proposed, strict=True):
                self._untold[number] = trial
                known = self._recorded.get(number)
                if known is not None and self._same(known, trial.params):
                    self.finished[number] = known
                else:
                    tasks.append(Task(number, self._config(number, structure)))
            if tasks:
                return tasks

    def done(self, number: int, outcome: Mapping[str, Any] | None) -> None:
        """See ``Generations``."""
        outcome = outcome or {"failure": "its worker died again and again"}
        values = dict(outcome.get("values", {}))
        failure = outcome.get("failure")
        lacking = [name for name in self._objectives if not math.isfinite(values.get(name, math.nan))]
        if failure is None and lacking:
            failure = f"{', '.join(lacking)} is not a number"
        details = {"made_from": self._made_from, "structure": outcome.get("structure")}
        params = dict(self._untold[number].params)
        trial = Finished(number, params, values if failure is None else {}, failure, details)
        self._journal.write("structures", trial)
        self.finished[number] = trial

    def _same(self, known: Finished, params: Mapping[str, Any]) -> bool:
        """Whether a recorded trial is this proposal, over the same members at the same cost."""
        return dict(known.params) == dict(params) and known.details.get("made_from") == self._made_from

    def _tell(self, numbers: range) -> None:
        """Tell the study what it does not know yet of these trials, in their order."""
        for number in (number for number in numbers if number in self._untold):
            trial = self.finished[number]
            values = [trial.values[name] for name in self._objectives] if trial.failure is None else None
            self._proposals.tell(self._untold.pop(number), values)

    def _config(self, number: int, structure: Structure) -> dict[str, Any]:
        return {"number": number, "structure": structure.to_json(), "seed": self._seed}


def choose_candidates(
    names: Sequence[str],
    probs: NDArray[np.float32],
    labels: NDArray[np.int64],
    cost: Mapping[str, float],
    count: int,
) -> tuple[str, ...]:
    """The members that structures choose from.

    Half are those that greedy selection takes first; then come those that no other member betters in both log-loss and
    cost, from the cheapest; then whoever has the lowest log-loss.

    Args:
        probs: (M, N, C) on the validation rows.
        labels: (N,).
        cost: of each member, such as its bytes.
        count: at most so many.
    """
    losses = dict(zip(names, member_losses(probs, labels).tolist(), strict=True))
    by_loss = sorted(names, key=lambda name: (losses[name], name))
    greedy = list(dict.fromkeys(names[index] for index in greedy_path(probs, labels).order))
    frugal = [n for n in by_loss if all(losses[o] >= losses[n] or cost[o] > cost[n] for o in names)]
    order = [*greedy[: -(-count // 2)], *sorted(frugal, key=lambda n: cost[n]), *greedy, *by_loss]
    chosen = set(list(dict.fromkeys(order))[:count])
    return tuple(name for name in names if name in chosen)


def pareto(finished: Sequence[Finished], objectives: Sequence[Objective]) -> list[Finished]:
    """Trials that no other betters in one objective without losing in another, the lowest first objective first.

    Of several with the same values the first proposed stays.
    """
    good = [trial for trial in finished if trial.failure is None]
    points = np.array([[trial.values[name] for name in objectives] for trial in good])
    front, seen = [], set()
    for index, trial in enumerate(good):
        dominated = ((points <= points[index]).all(axis=1) & (points < points[index]).any(axis=1)).any()
        key = tuple(points[index])
        if not dominated and key not in seen:
            seen.add(key)
            front.append(trial)
    return sorted(front, key=lambda trial: (*(trial.values[name] for name in objectives), trial.number))


def check_any(finished: Sequence[Finished], folder: Path) -> None:
    """Refuse a search in which nothing worked.

    Raises:
        SweepError: with the first failure.
    """
    if not any(trial.failure is None for trial in finished):
        found = next((trial.failure for trial in finished), "none ran in the time given")
        fix = f"change the space, or give more time: quorate tune --resume {folder}"
        raise SweepError("structures", f"not one of {len(finished)} trials worked: {found}", fix)
