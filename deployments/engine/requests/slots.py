"""Places for batches that no member has answered yet; each has one owner, who cannot lose it to an error."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType


class Slots:
    """So many batches may be out at a time.

    Attributes:
        limit: how many; it may change at any time.
        taken: how many are out.
    """

    def __init__(self, limit: int, on_free: Callable[[], None]):
        """
        Args:
            on_free: called whenever a slot is given back.
        """
        self.limit, self.taken = limit, 0
        self.on_free = on_free

    def free(self) -> bool:
        """Whether another batch may start."""
        return self.taken < self.limit

    def take(self) -> Slot:
        """Take one, also beyond the limit."""
        self.taken += 1
        return Slot(self)


class Slot:
    """A place that is held. As a context it is given back when its block raises, and otherwise by ``release``."""

    __slots__ = ("_slots",)

    def __init__(self, slots: Slots):
        self._slots: Slots | None = slots

    def release(self) -> None:
        """Give it back; again changes nothing."""
        slots, self._slots = self._slots, None
        if slots is not None:
            slots.taken -= 1
            slots.on_free()

    def __enter__(self) -> Slot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.release()
