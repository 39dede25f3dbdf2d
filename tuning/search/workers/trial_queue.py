"""Which trial runs next, and what happens to one whose worker died. Knows nothing of Ray."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

from quorate.tuning.search.generations import Generations, Task

# A trial that takes its process down each time is given up; one that was on a lost node runs on elsewhere.
MOST_DEATHS = 3


class TrialQueue:
    """Tasks of one phase, from its generations to their outcomes."""

    def __init__(self, generations: Generations):
        self._generations = generations
        self._waiting: deque[Task] = deque()
        self._running: dict[int, Task] = {}
        self._deaths: Counter[int] = Counter()
        self._exhausted = False

    @property
    def ended(self) -> bool:
        """Nothing waits, nothing runs, and no generation is left."""
        return self._exhausted and not self._waiting and not self._running

    @property
    def running(self) -> int:
        """How many tasks have started and not ended."""
        return len(self._running)

    def waiting(self) -> int:
        """How many tasks could start now, after asking for the next generation where none does."""
        if not self._waiting and not self._exhausted:
            tasks = self._generations.next()
            if tasks is not None:
                self._waiting.extend(tasks)
                self._exhausted = not tasks
        return len(self._waiting)

    def start(self) -> Task:
        """The task to run next; one must be waiting."""
        task = self._waiting.popleft()
        self._running[task.number] = task
        return task

    def finish(self, number: int, outcome: Mapping[str, Any]) -> None:
        """Hand a trial's outcome to its generations."""
        del self._running[number]
        self._generations.done(number, outcome)

    def lose(self, number: int) -> bool:
        """A trial's worker died: whether it is tried again."""
        task = self._running.pop(number)
        self._deaths[number] += 1
        if self._deaths[number] < MOST_DEATHS:
            self._waiting.appendleft(task)
            return True
        self._generations.done(number, None)
        return False
