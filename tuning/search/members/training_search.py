"""What the searches for members and for heads share: networks trained a generation at a time, kept in the journal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from quorate.deployments.spec.digests import file_digest
from quorate.deployments.spec.schema import MemberJob, MemberSpec
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.errors import SweepError
from quorate.tuning.search.generations import WORKER_DIED, Task, unfinished
from quorate.tuning.search.journal import Finished, Journal, resume_hint
from quorate.tuning.search.space import SearchSpace

Say = Callable[[str], None]


class TrainingSearch(ABC):
    """Proposes networks to train (``Generations``); each task's config is a ``MemberTrial``'s."""

    phase: ClassVar[Literal["members", "heads"]]
    trials: int

    def __init__(
        self, folder: Path, space: SearchSpace, data: Mapping[str, Labelled], *, seed: int, parallel: int, say: Say
    ):
        """
        Args:
            folder: the run's.
            data: train, stopping, validation and held-out rows.
            parallel: networks in a generation.
            say: told what the user should know.
        """
        self._folder, self._space, self._data, self._say = folder, space, data, say
        self._seed, self._parallel = seed, parallel
        self._journal = Journal(folder)
        self._params: dict[int, dict[str, Any]] = {}
        self._generation = 0
        self.finished: dict[int, Finished] = {}

    def next(self) -> Sequence[Task] | None:
        """See ``Generations``."""
        found = unfinished(self._generation, self._parallel, self.trials, self.finished)
        if found is None:
            return None
        number, numbers, before = found
        self._generation = number + 1
        return self._propose(number, numbers, before) if numbers else []

    @abstractmethod
    def _propose(self, generation: int, numbers: range, known: range) -> list[Task]:
        """Tasks for those numbers that have not run, proposed from the trials ``known``."""

    def _good(self) -> list[Finished]:
        """Trials that gave a network, in the order of their numbers."""
        return [self.finished[number] for number in sorted(self.finished) if self.finished[number].failure is None]

    def _recorded(self) -> dict[int, Finished]:
        """What the journal holds; a file that is damaged is told of."""
        found, damage = self._journal.read(self.phase)
        for sentence in damage:
            self._say(sentence)
        return found

    def _checked(self, number: int, outcome: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """The outcome, whose sentences are passed on.

        Raises:
            SweepError: the disk is full.
        """
        outcome = outcome or {"failure": WORKER_DIED, "history": [], "said": []}
        if "storage" in outcome:
            raise SweepError(str(self._folder), f"cannot be written ({outcome['storage']})", resume_hint(self._folder))
        for sentence in outcome["said"]:
            self._say(f"{self.phase.removesuffix('s')} {number}: {sentence}")
        return outcome

    def _damage(self, trial: Finished) -> str | None:
        """What is wrong with the weights of a trial in the journal."""
        if trial.failure is not None:
            return None
        member = MemberSpec(**trial.details["member"])
        path = self._folder / str(member.weights)
        if not path.is_file():
            return f"{path.name} is missing"
        return None if file_digest(path) == member.digest else f"{path.name} has other bytes than were written"

    def _config(
        self,
        number: int,
        job: MemberJob,
        seed: Sequence[int],
        how: Mapping[str, Any],
        limits: Mapping[int, float] | None = None,
    ) -> dict[str, Any]:
        """What a ``MemberTrial`` is made from, as JSON holds it."""
        training = {
            "epochs": self._space.epochs,
            "batch_size": self._space.batch_size,
            "seed": int(np.random.SeedSequence(seed).generate_state(1)[0]),
            **how,
        }
        return {
            "number": number,
            "phase": self.phase,
            "folder": str(self._folder.resolve()),
            "job": job.model_dump_json(),
            "training": training,
            "cutoffs": {str(rung): loss for rung, loss in (limits or {}).items()},
            "threads": max(1, int(self._space.resources.num_cpus)),
        }

    def _place(self, number: int) -> Path:
        return self._folder / "trials" / self.phase / f"{number:05d}"
