"""What a promotion made live, and how it was made sure of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from quorate.deployments.display import Displayed, Table
from quorate.deployments.rollout.canary_report import CanaryReport


@dataclass(frozen=True, repr=False)
class Promotion(Displayed):
    """What is live now.

    Attributes:
        revision: the promoted one.
        previous: what answered before; ``quorate rollback`` goes back to it.
        probe_rows: rows that every fusion replica answered as the run did.
        largest_difference: between a served and an expected probability.
        loses: what is lost by picking another than the recommended one, in words; empty where nothing is.
    """

    name: str
    revision: str
    previous: str
    http: str
    probe_rows: int
    largest_difference: float
    canary: CanaryReport | None = None
    loses: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return asdict(self)

    def tables(self) -> Sequence[Table]:
        """What is live now, and how that was made sure of."""
        lines = [
            f"{self.name} answers with revision {self.revision}; "
            f"quorate rollback {self.name} goes back to {self.previous}",
            f"{self.probe_rows} probe rows answered as in the run, to {self.largest_difference:.1g}",
        ]
        if self.canary is not None:
            rates, medians = self.canary.error_rates, self.canary.median_s
            lines.append(
                f"canary: {self.canary.answers} requests, errors {rates[1]:.2%} (before {rates[0]:.2%}), "
                f"median {1e3 * medians[1]:.1f} ms (before {1e3 * medians[0]:.1f} ms)"
            )
        return [Table(lines=[*lines, self.loses] if self.loses else lines)]
