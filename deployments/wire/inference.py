"""One inference as any wire carries it: what is asked, and what is answered."""

# B rows

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from quorate.deployments.telemetry.tracer import RequestTrace

Array = NDArray[Any]
Scalar = str | int | float | bool
# Every model has this one version.
VERSION = "1"
# The parameter of an input's metadata that says with what sizes of a row, as JSON, models were tried.
EXAMPLE_SHAPE = "example_shape"


@dataclass(slots=True)
class InferRequest:
    """One inference, as any wire carries it.

    Attributes:
        inputs: by name, (B, *shape).
        outputs: which outputs to give; None for all.
        deadline_s: what the client's own deadline leaves; None for no such.
        classification: of these outputs, the so many best classes instead of the values.
        trace: that it belongs to; None for nearly all.
    """

    model: str
    inputs: Mapping[str, Array]
    version: str = ""
    id: str = ""
    outputs: tuple[str, ...] | None = None
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    deadline_s: float | None = None
    classification: Mapping[str, Scalar] = field(default_factory=dict)
    trace: RequestTrace | None = None


@dataclass(slots=True)
class InferResponse:
    """One answer, as any wire carries it.

    Attributes:
        parameters: what it says about itself.
        output_parameters: likewise, by output; ``classes``, a JSON list, are what its last dimension stands for.
    """

    model: str
    outputs: Mapping[str, Array]
    id: str = ""
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    output_parameters: Mapping[str, Mapping[str, Scalar]] = field(default_factory=dict)


@dataclass(slots=True)
class Body:
    """What a client sent.

    Attributes:
        json: the JSON part; None when all of the body is one tensor's bytes (header length 0).
        binary: what comes after it.
    """

    json: bytes | memoryview | None
    binary: memoryview | None = None
