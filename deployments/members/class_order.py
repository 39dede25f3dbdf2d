"""The columns of a model that knows its own classes, put where the spec says these are."""

# B batch, K the model's own classes, C those of the member as the spec has them

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.sources.outputs import OutputError
from quorate.deployments.spec.schema import MemberJob


class ClassOrder:
    """Where each class of a member stands in what its model returns.

    Names decide. A model that only numbers its classes from 0, or whose names the member's own ``classes`` replace,
    gives them in the spec's order.

    Attributes:
        own: what the model calls its columns.
    """

    def __init__(self, own: tuple[str, ...], job: MemberJob):
        """Raises:
        OutputError: the model knows other classes than the spec.
        """
        self.own, self._absent = own, _absent(job.member.output)
        self._order = _order(own, job)

    def put(self, output: NDArray[Any]) -> NDArray[Any]:
        """(..., C) of a model's (..., K); a class that the model does not know has a probability of zero."""
        if self._order is None or output.shape[-1] != len(self.own):  # of another width, which is said elsewhere
            return output
        found: NDArray[Any] = output[..., self._order]
        unknown = self._order < 0
        if unknown.any():
            found[..., unknown] = self._absent
        return found


def _order(own: tuple[str, ...], job: MemberJob) -> NDArray[np.intp] | None:
    """(C,) the model's column of each class, -1 where it does not know that; None where all stand where they should."""
    wanted = job.member.classes or job.classes
    if wanted is None or job.member.output not in ("logits", "probabilities") or own == wanted:
        return None
    if set(own) <= set(wanted):
        return np.array([own.index(name) if name in own else -1 for name in wanted], np.intp)
    numbered = own == tuple(map(str, range(len(own))))  # names of no other meaning than their places
    if (numbered or job.member.classes is not None) and len(own) == len(wanted):
        return None
    found = f"the model's classes are {_some(own)}, and the ensemble's {_some(wanted)}"
    raise OutputError(found, "give the member classes: the ensemble's names, in the order of the model's")


def _absent(output: str) -> float:
    """What a class has that the model does not know."""
    return float(np.log(np.finfo(np.float32).tiny)) if output == "logits" else 0.0


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more
