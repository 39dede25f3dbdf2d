"""What is kept of answers, for labels that come later."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from quorate.deployments.spec.fields.types import Frozen
from quorate.deployments.spec.uris import inside

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# A number alone counts seconds.
Period = Annotated[
    str,
    BeforeValidator(lambda v: f"{v}s" if type(v) is int else v),
    Field(pattern=r"^[1-9][0-9]{0,8}[smhd]$"),
]


def seconds_of(period: str) -> int:
    """What a ``Period`` says."""
    return int(period[:-1]) * _UNITS_S[period[-1]]


class RecordSpec(Frozen):
    """A record of answers: what members gave, what was fused, and the labels that clients send for it.

    Attributes:
        folder: an absolute path on each node that has doors, or a URI of any pyarrow file system (``s3://bucket/here``),
            which all doors then share. The ensemble has a folder of its own in it.
        share: of the requests whose answers are kept; 0 keeps none, and takes labels for those that were kept before.
        keep_for: answers and labels that are older go, and labels for them are refused: ``30d``, ``12h``, ``90s``.
        max_bytes: that the ensemble's folder may hold; the oldest answers go first.
        inputs: keep what was asked, too.
        exact: members' outputs as they came, float32, from which answers are computed again bit for bit; float16, half
            the size, where false.
    """

    folder: Annotated[str, Field(min_length=1)]
    share: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0
    keep_for: Period = "30d"
    max_bytes: Annotated[int, Field(ge=1 << 24, le=1 << 50)] = 1 << 30
    inputs: bool = False
    exact: bool = True

    @property
    def shared(self) -> bool:
        """Whether all doors have the same folder, rather than each node its own."""
        return "://" in self.folder

    def folder_of(self, ensemble: str) -> str:
        """An ensemble's own folder in it."""
        return inside(self.folder, ensemble)

    @property
    def keep_for_s(self) -> int:
        return seconds_of(self.keep_for)
