"""Weights that learn from labels, and whether they go live by themselves."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import model_validator

from quorate.deployments.spec.fields.record import Period, seconds_of
from quorate.deployments.spec.fields.types import Frozen


class OnlineSpec(Frozen):
    """What is learned of the labels of recorded answers; ``online: live`` alone says the mode.

    Attributes:
        mode: ``shadow`` learns and tells what would have come of it, ``live`` publishes weights that are shown to be
            better than the live ones, and takes them back where they turn out worse; ``off`` learns nothing.
        publish_every: the least time between two publications: ``10m``, ``1d``. Taking back waits for nothing.
    """

    may_be_a_word: ClassVar[bool] = True

    mode: Literal["off", "shadow", "live"] = "off"
    publish_every: Period = "10m"

    @property
    def publish_every_s(self) -> int:
        return seconds_of(self.publish_every)

    @model_validator(mode="before")
    @classmethod
    def _of_a_mode_alone(cls, data: Any) -> Any:
        # What many readers of YAML have of off is false.
        data = "off" if data is False else data
        return {"mode": data} if isinstance(data, str) else data
