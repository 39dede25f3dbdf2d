"""What a protocol must give: the description of a model, and its answer to a batch."""

# B batch

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class RemoteTensor:
    """An input or output as the server describes it.

    Attributes:
        shape: with the batch dimension; -1 is a free one.
        classes: what an output's columns stand for, where the server says so, as Quorate does.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Description:
    """A model as its server describes it."""

    inputs: tuple[RemoteTensor, ...]
    outputs: tuple[RemoteTensor, ...]


class RefusedError(ValueError):
    """The server has looked at the rows, or said that there is no such model; others may fare better."""


class UnreachableError(Exception):
    """The server did not answer, or not in time, or takes no requests now: no row of a batch fares better alone."""


class Server(Protocol):
    """One model of one server, asked by one thread."""

    def describe(self, timeout_s: float) -> Description:
        """Raises RefusedError or UnreachableError."""

    def infer(self, inputs: Mapping[str, Array], output: str, timeout_s: float) -> Array:
        """One output, (B, ...), for inputs of (B, ...) each. Raises RefusedError or UnreachableError."""
