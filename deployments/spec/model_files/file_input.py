"""An input as a model's file describes it, whatever the format."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FileInput:
    """An input of a model.

    Attributes:
        datatype: the protocol's name; empty for one that it has not.
        sizes: of its dimensions, rows first, None where one is free; None as a whole where the file does not say.
    """

    datatype: str
    sizes: tuple[int | None, ...] | None

    def __str__(self) -> str:
        sizes = "" if self.sizes is None else f" {[-1 if size is None else size for size in self.sizes]}"
        return f"{self.datatype or 'another type'}{sizes}"
