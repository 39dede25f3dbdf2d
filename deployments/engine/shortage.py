"""What to tell a client whose rows have no answer."""

# M members, B rows

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.fusions.fuser import Fuser
from quorate.deployments.engine.fusions.presence import NONFINITE, OK, Presence, States
from quorate.deployments.errors import DeadlineError, NonFiniteRowError
from quorate.fusion.errors import QuorateError, QuorumError

Array = NDArray[Any]


def shortage(
    fuser: Fuser, presence: Presence, asked: int, inputs: Mapping[str, Array], back_s: Callable[[str], float]
) -> QuorateError:
    """Why a request's rows have no answer.

    Args:
        fuser: of the answer.
        presence: of these rows; the fuser's members come first.
        asked: how many members were to be fused.
        inputs: of the request.
        back_s: in how many seconds a member may take calls again.
    """
    fusion, states = fuser.fusion, presence.first(len(fuser.asked))
    reasons = presence.account().missing
    row = _row_without_finite_answer(fuser, states)
    if row is not None:
        names = [name for name, node in zip(presence.nodes, presence.states, strict=True) if node[row] == NONFINITE]
        return nonfinite_row(row, names, inputs)
    fewest = int((states == OK).sum(axis=0).min())
    needed = f"{min(fusion.quorum, asked)} of {asked} members"
    if fusion.required:
        needed += f" and always {', '.join(fusion.required)}"
    missing = ", ".join(f"{name}:{reason}" for name, reason in reasons.items())
    if "deadline" in reasons.values():
        return DeadlineError(needed, str(fewest), missing)
    short = max(min(fusion.quorum, asked) - fewest, 1)
    waits_s = sorted(back_s(name) for name in reasons)
    return QuorumError(needed, str(fewest), missing, waits_s[min(short, len(waits_s)) - 1] if waits_s else 0.0)


def nonfinite_row(row: int, members: Sequence[str], inputs: Mapping[str, Array]) -> NonFiniteRowError:
    """The error for a row that members answered with NaN or infinity, with what is seen of the cause.

    NaN may stand for a missing value that a model knows how to read, so inputs are let in as they are; but where no
    quorum of members makes anything of them, asking again does not help, and only the client can change the row.

    Args:
        row: of the request.
        inputs: of the request, (B, *shape) each.
    """
    for name, array in inputs.items():
        if not _is_finite(array[row]):
            return NonFiniteRowError(row, ", ".join(members), f"input '{name}' holds NaN or infinity there")
    return NonFiniteRowError(row, ", ".join(members), "its inputs are finite, but the models' outputs for them are not")


def _row_without_finite_answer(fuser: Fuser, states: States) -> int | None:
    """The first row short of a quorum; None unless NaN and infinity alone are why each such row is."""
    short = ~fuser.enough(states)
    answered = np.where(states == NONFINITE, np.uint8(OK), states)
    return int(np.flatnonzero(short)[0]) if short.any() and fuser.enough(answered)[short].all() else None


def _is_finite(values: Array) -> bool:
    if values.dtype.kind in "biuOSU":
        return True
    return bool(np.isfinite(values.astype(np.float64)).all())  # bfloat16 is no kind of NumPy's own
