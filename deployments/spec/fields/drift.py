"""What is watched of answers, and who is told when it changes."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from quorate.deployments.spec.fields.types import Frozen

DriftKind = Literal[
    "disagreement", "confidence", "classes", "dissent", "values", "missing", "loss", "calibration", "labels", "errors"
]


class DriftSpec(Frozen):
    """How each door looks at what it answers.

    Attributes:
        reference: a file that ``quorate tune`` writes beside a spec: how its held-out rows were answered. What it does
            not tell, all of it when left out, is learned from the first answers.
        rows: how many first answers that is.
        statistics: what is looked at: ``disagreement`` of members, ``confidence``, shares of ``classes``, ``dissent``
            of a member by class, ``values`` and ``missing`` members; with labels ``loss`` and ``calibration`` of each
            member and of the answers, shares of ``labels``, and ``errors`` of each class.
        false_alarms: the chance that a door raises any alarm at all while nothing changes, however long it looks.
        tolerance: changes of a mean by less than so many standard deviations are no drift.
        webhook: an address that alarms are sent to as JSON (POST).
    """

    reference: Annotated[str, Field(min_length=1)] | None = None
    rows: Annotated[int, Field(ge=100, le=1_000_000)] = 1000
    statistics: Annotated[tuple[DriftKind, ...], Field(min_length=1)] = get_args(DriftKind)
    false_alarms: Annotated[float, Field(gt=0, lt=1)] = 0.05
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    webhook: Annotated[str, Field(pattern=r"^https?://[^\s/]+")] | None = None
