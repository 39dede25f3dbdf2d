"""Several outputs in one answer: each is asked for by itself, with its own rule, members and deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from quorate.deployments.engine.engine import Engine
from quorate.deployments.engine.request import DEFAULT_PRIORITY, Answer
from quorate.deployments.engine.revision_set import ServedRevision
from quorate.deployments.metrics.outcomes import outcome_of
from quorate.fusion.errors import QuorateError

Array = NDArray[Any]


@dataclass(frozen=True)
class Answers:
    """What came of each output.

    Attributes:
        answers: by output, in the order that they were asked for.
        errors: of the others.
    """

    answers: Mapping[str, Answer]
    errors: Mapping[str, QuorateError]

    @property
    def queued_s(self) -> float:
        return max(answer.queued_s for answer in self.answers.values())

    def parameters(self) -> dict[str, str | float | bool]:
        """What holds of all of them: who is fused into any, who is missing from any, the least coverage."""
        answers = self.answers.values()
        used = sorted({name for answer in answers for name in answer.members_used})
        missing = sorted({f"{name}:{why}" for answer in answers for name, why in answer.members_missing.items()})
        found: dict[str, str | float | bool] = {
            "revision": next(iter(answers)).revision,
            "members_used": ",".join(used),
            "members_missing": ",".join(missing),
            "coverage": min(float(answer.coverage.min()) for answer in answers),
            "degraded": bool(missing or self.errors),
        }
        if self.errors:
            found["outputs_missing"] = ",".join(f"{name}:{outcome_of(error)}" for name, error in self.errors.items())
        return found


async def infer_outputs(
    engine: Engine,
    served: ServedRevision,
    outputs: Sequence[str],
    inputs: Mapping[str, Array],
    deadline_s: float | None = None,
    explain: bool = False,
    members: tuple[str, ...] | None = None,
    priority: int = DEFAULT_PRIORITY,
) -> Answers:
    """Ask for several outputs of one revision; arguments are those of ``Engine.infer``.

    Args:
        members: ask only these, each output those that are its own; one that has none of them is left out.

    Raises:
        QuorateError: what kept the first of them from an answer, where none has one.
    """
    asked = {name: _own(served.views[name], members) for name in outputs}
    left = {name: own for name, own in asked.items() if own != ()}
    found = await asyncio.gather(
        *(engine.infer(inputs, deadline_s, explain, own, priority, served.views[n]) for n, own in left.items()),
        return_exceptions=True,
    )
    answers, errors = {}, {}
    for name, one in zip(left, found, strict=True):
        if isinstance(one, Answer):
            answers[name] = one
        elif isinstance(one, QuorateError):
            errors[name] = one
        else:
            raise one
    if not answers:
        raise next(iter(errors.values()))
    return Answers(answers, errors)


def _own(view: ServedRevision, members: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return None if members is None else tuple(name for name in members if name in view.revision.asked)
