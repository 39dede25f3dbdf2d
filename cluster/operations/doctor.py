"""Look at what would keep ensembles from running on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from quorate.cluster.doctor.finding import Finding
from quorate.cluster.doctor.leftovers import check_leftovers
from quorate.cluster.doctor.machine import check_machine
from quorate.cluster.doctor.packages import check_packages
from quorate.deployments.display import Displayed, Table

# What a local cluster has for objects; see ``local.cluster``, which needs Ray to be read.
_OBJECT_STORE_BYTES = 256 << 20
_WORDS = {"ok": "ok", "warning": "warn", "failed": "FAIL"}


@dataclass(frozen=True, repr=False)
class Diagnosis(Displayed):
    """What was looked at, in order."""

    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing keeps ensembles from running."""
        return not any(finding.state == "failed" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return {"healthy": self.healthy, "findings": [asdict(finding) for finding in self.findings]}

    def tables(self) -> Sequence[Table]:
        return [Table(lines=[_line(finding) for finding in self.findings])]


def doctor() -> Diagnosis:
    """Check Python, packages and their versions, GPUs, memory, ports, limits, the state folder and leftovers."""
    return Diagnosis((*check_packages(), *check_machine(_OBJECT_STORE_BYTES), *check_leftovers()))


def _line(finding: Finding) -> str:
    fix = f"; {finding.fix}" if finding.fix else ""
    return f"{_WORDS[finding.state]:4}  {finding.check}: {finding.found}{fix}"
