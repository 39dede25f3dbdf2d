"""What can go wrong while tuning: with data, predictions, architectures, sweeps and promotion."""

from __future__ import annotations

from quorate.deployments.errors import located
from quorate.fusion.errors import QuorateError


class TuningError(QuorateError):
    """Something asked of tuning cannot be done; raised before long work starts where it can be known."""

    http_status, grpc_code = 400, "INVALID_ARGUMENT"

    def __init__(self, what: str, found: str, fix: str):
        super().__init__(what, found, fix)
        self.what, self.found, self.fix = what, found, fix

    def __str__(self) -> str:
        return located(self.spec_line, f"{self.what}: {self.found}; {self.fix}")


class ArchitectureError(TuningError):
    """A network that cannot be built from its config."""


class DataError(TuningError):
    """Labelled data that cannot be read, or does not fit the spec."""


class PredictionError(TuningError):
    """Stored or given predictions that weights cannot be solved on."""


class MemberPredictionError(PredictionError):
    """A member failed on every row.

    Attributes:
        trace: the lines of its own code that led there; empty for none.
    """

    def __init__(self, member: str, found: str, trace: str):
        QuorateError.__init__(self, member, found, trace)
        self.what, self.found, self.fix, self.trace = f"members.{member}", found, "correct the member", trace

    def __str__(self) -> str:
        return located("", super().__str__(), self.trace)


class PromotionError(TuningError):
    """A run's ensemble that was not made the live one; the old one still answers."""


class SweepError(TuningError):
    """A sweep that cannot start, go on or be taken up again."""


def from_ray(error: Exception, what: str, fix: str) -> QuorateError:
    """The error of ours that a task or an actor raised; where Ray itself failed, a sentence of what it says."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, QuorateError):
        return cause
    return PredictionError(what, f"Ray gave up: {str(error).strip().splitlines()[-1][:300]}", fix)
