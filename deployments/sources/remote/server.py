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
        datatype: empty where the server does not say.
        shape: with the batch dimension; -1 is a free one.
        classes: what an output's columns stand for, where the server says so, as Quorate does.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Description:
    """A model as its server describes it; without inputs or outputs where it does not say, as MLServer and KServe."""

    inputs: tuple[RemoteTensor, ...]
    outputs: tuple[RemoteTensor, ...]


class RefusedError(ValueError):
    """The server has looked at the rows, or said that there is no such model; others may fare better."""


class UnreachableError(Exception):
    """The server did not answer, or not in time, or takes no requests now: no row of a batch fares better alone."""


class DownError(UnreachableError):
    """Nobody is there, or not in time, or not ready: the server may be up again any moment."""


class Server(Protocol):
    """One model of one server, asked by several threads at once."""

    def describe(self, timeout_s: float) -> Description:
        """Raises RefusedError or UnreachableError."""

    def infer(self, inputs: Mapping[str, Array], output: str | None, timeout_s: float) -> dict[str, Array]:
        """The output, or all where None is named, (B, ...) for inputs of (B, ...) each.

        Raises RefusedError or UnreachableError.
        """
