"""Members that share a process: the one place where their forward passes of a batch are run."""

# B rows

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quorate.deployments.members.packing.alike import stack_members
from quorate.deployments.members.packing.stacked_members import StackedMembers
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.members.telemetry import MemberTelemetry
from quorate.deployments.sources.outputs import OutputError
from quorate.deployments.sources.remote.call_deadline import set_deadline
from quorate.deployments.transport.member_call import Outcome
from quorate.deployments.transport.messages import max_answer_bytes

Array = NDArray[Any]

# More than what stands around the values of an answer, its states included.
_FRAMING_BYTES = 1 << 20
# How much a pass counts in what a member is taken to need: a change shows within some ten of them.
_NEW = 0.1


@dataclass(slots=True)
class Question:
    """Rows for one of the members.

    Attributes:
        member: its place in the group.
        tensors: what it reads, (B, *shape) each, in its order.
        probabilities: what a fusion reads is wanted, instead of what the model returns.
        expires: until when somebody waits (monotonic time).
        contexts: whose rows they are, where that is traced; they have waited for ``waited_s``.
        shared: others read these arrays too, so that the model, which may write into them, gets copies.
    """

    member: int
    tensors: Sequence[Array]
    probabilities: bool
    expires: float
    contexts: Sequence[str] = ()
    waited_s: float = 0.0
    shared: bool = False


class MemberGroup:
    """One or several members of an ensemble, run by one thread, one after another.

    Attributes:
        members: in the order by which questions name them.
        running: the place of the one that computes now, or did last.
        on_running: told the place of each that is about to compute, and -1 behind it.
        stacks: those that run as one, being of one architecture; of the others ``alone`` says why not, by place.
    """

    def __init__(self, members: Sequence[Predictor], telemetry: Sequence[MemberTelemetry] = ()):
        """Args:
        telemetry: of each of them.
        """
        self.members = tuple(members)
        self.running = 0
        self.on_running: Callable[[int], None] = _ignore
        self._telemetry = tuple(telemetry) or tuple(MemberTelemetry(one.name) for one in members)
        self._needs_s = [0.0] * len(self.members)
        self._of_thread = _OfThread()
        self.stacks, self.alone = stack_members(self.members) if len(self.members) > 1 else ([], {})

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names, in their order."""
        return tuple(one.name for one in self.members)

    def passes(self) -> str:
        """Whose forward passes are run as one and whose are not, and why; empty for a single member."""
        said = [f"{self._listed(stack.places)}: {stack.how}" for stack in self.stacks]
        said += [f"{self.members[place].name}: one by one, {reason}" for place, reason in self.alone.items()]
        return "; ".join(said)

    def _listed(self, places: Sequence[int]) -> str:
        return ", ".join(self.members[place].name for place in places)

    def use_telemetry(self, stored: str) -> None:
        """Have all of them trace and log by these settings."""
        for telemetry in self._telemetry:
            telemetry.use(stored)

    def run(self, questions: Sequence[Question]) -> Iterator[Outcome]:
        """Run the questions of one batch, no member twice, and give each outcome as soon as it is there.

        Who needs the least time comes first: one that is late keeps none of the others from their answers.
        """
        done: set[int] = set()
        ready: dict[int, tuple[Array, float]] = {}
        for stack in self.stacks:
            for outcome in self._run_stacked(stack, questions, ready):
                done.add(outcome.question)
                yield outcome
        if len(done) == len(questions):
            return
        needs_s = self._needs_s
        left = [at for at in range(len(questions)) if at not in done]
        left.sort(key=lambda at: (at not in ready, needs_s[questions[at].member]))
        for number, place in enumerate(left):
            if number and questions[place].expires < time.monotonic():
                continue  # nobody waits any more
            yield self._run(place, questions[place], *ready.get(place, (None, 0.0)))

    def _run_stacked(
        self, stack: StackedMembers, questions: Sequence[Question], ready: dict[int, tuple[Array, float]]
    ) -> Sequence[Outcome]:
        """What members give that run as one, where all of them are asked about the same rows.

        Args:
            ready: gets what the model gave and the seconds of that, by place of the question, where more is to be done.
        """
        asked = [at for at, question in enumerate(questions) if question.member in stack.places]
        if len(asked) < len(stack.places):
            return ()
        first, plain = questions[asked[0]], stack.read_alike
        tensors, rows = first.tensors, len(first.tensors[0])
        for at in asked:
            question = questions[at]
            plain = plain and question.probabilities and not question.contexts
            if question.tensors is not tensors and not _same(tensors, question.tensors):
                return ()
        if rows > stack.max_rows or len(asked) > len(stack.places):
            return ()
        self._begin(stack.places[0])
        started = time.monotonic()
        try:
            outputs = stack.run(self._inputs(first))
            values = self.members[first.member].fusable(outputs, rows) if plain else None
        except Exception:  # run one by one, each says what is the matter with it
            return ()
        finally:
            self.on_running(-1)
        seconds = (time.monotonic() - started) / len(asked)
        by_place = dict(zip(stack.places, outputs if values is None else values, strict=True))
        if values is None:
            ready.update({at: (by_place[questions[at].member], seconds) for at in asked})
            return ()
        states = np.zeros((len(asked), rows), np.uint8)
        return [
            Outcome(at, by_place[questions[at].member], state, seconds, good=True)
            for at, state in zip(asked, states, strict=True)
        ]

    def _inputs(self, question: Question) -> dict[str, Array]:
        tensors = [np.array(one, order="C") for one in question.tensors] if question.shared else question.tensors
        return dict(zip(self.members[question.member].inputs, tensors, strict=True))

    def _begin(self, place: int) -> None:
        """Say that a member computes from now on, and have it use as many threads as it may."""
        self.running, threads = place, self.members[place].threads
        self.on_running(place)
        if threads != self._of_thread.threads:
            # OpenMP keeps its number of threads per calling thread: set anywhere else, a batch of 64 rows through a
            # small layer took 20 ms instead of 0.1 on two busy cores, its threads waiting for each other.
            torch.set_num_threads(threads)
            self._of_thread.threads = threads

    def _run(self, place: int, question: Question, output: Array | None, spent_s: float) -> Outcome:
        member = self.members[question.member]
        self._begin(question.member)
        set_deadline(question.expires)
        inputs = self._inputs(question)
        started = time.monotonic()
        if question.contexts:
            with self._traced(question):
                values, status = member.run_chunked(inputs, question.probabilities, output)
        else:
            values, status = member.run_chunked(inputs, question.probabilities, output)
        seconds = time.monotonic() - started + spent_s
        self.on_running(-1)
        self._needs_s[question.member] += _NEW * (seconds - self._needs_s[question.member])
        limit = max_answer_bytes(len(status)) - _FRAMING_BYTES
        if values.nbytes <= limit:
            return Outcome(place, values, status, seconds)
        found = f"the model's answer to {len(status)} rows has {values.nbytes} bytes; at most {limit} are sent"
        member.note(OutputError(found))
        return Outcome(place, None, status, seconds, found)

    def _traced(self, question: Question) -> AbstractContextManager[None]:
        """A context for a forward pass: as long as it lasts it is known for whom."""
        device = str(self.members[question.member].model.device)
        telemetry, rows = self._telemetry[question.member], len(question.tensors[0])
        return telemetry.forward(question.contexts, rows, question.waited_s, device)


class _OfThread(threading.local):
    """With how many threads it computes."""

    threads = 0


def _same(tensors: Sequence[Array], others: Sequence[Array]) -> bool:
    """Whether two members are asked about the same rows."""
    return all(one is other for one, other in zip(tensors, others, strict=True))


def _ignore(place: int) -> None:
    """Nobody wants to know who computes."""
