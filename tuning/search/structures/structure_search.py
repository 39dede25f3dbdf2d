"""The search for structures over stored predictions, and which of them are worth deploying."""

# M members, N rows, C classes

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from quorate.tuning.search.generations import WORKER_DIED, Task, generation
from quorate.tuning.search.journal import Finished, Journal
from quorate.tuning.search.sampler import Proposals
from quorate.tuning.search.space import Objective, SamplerName, SearchSpace
from quorate.tuning.search.structures.structure import Menu, Structure, suggest_structure
from quorate.tuning.search.structures.table import Table


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
        outcome = outcome or {"failure": WORKER_DIED}
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
