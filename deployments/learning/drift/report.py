"""How drift stands, of one door, of several together, or of a record: in JSON's types, and as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from quorate.deployments.display import Displayed, Table
from quorate.deployments.learning.drift.naming import describe
from quorate.deployments.learning.drift.statistics import Statistic

_COLUMNS = ("output", "statistic", "reference", "now", "answers", "drift", "since")


@dataclass(frozen=True, repr=False)
class DriftReport(Displayed):
    """What has drifted.

    Attributes:
        name: the ensemble.
        revision: that is watched.
        outputs: by output, the name empty where there is one: ``answers`` and ``labelled`` that were looked at,
            ``statistics``, who is ``named``, and the latest ``changes``; see ``Monitor.report``.
        doors: that have told, and ``silent`` that have not, or watch another revision.
        why: why there is nothing, where there is nothing.
    """

    name: str
    revision: str = ""
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    doors: int = 0
    silent: int = 0
    why: str = ""

    @property
    def drifted(self) -> bool:
        """Whether any statistic is another than it was."""
        return any(one["alarm"] for found in self.outputs.values() for one in found["statistics"])

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        outputs = [{"output": name, **found} for name, found in self.outputs.items()]
        return {
            "name": self.name, "revision": self.revision, "doors": self.doors, "silent": self.silent, "why": self.why,
            "drifted": self.drifted, "outputs": outputs,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> DriftReport:
        """What ``to_dict`` gave."""
        outputs = {one["output"]: {k: v for k, v in one.items() if k != "output"} for one in told["outputs"]}
        plain = ("name", "revision", "doors", "silent", "why")
        return cls(**{name: told[name] for name in plain}, outputs=outputs)

    def tables(self) -> Sequence[Table]:
        """Who has changed, how each statistic stands, and what changed when."""
        if self.why:
            return [Table(lines=[self.why])]
        rows = [_cells(output, one) for output, found in self.outputs.items() for one in found["statistics"]]
        kept = [at for at in range(len(_COLUMNS)) if any(row[at] for row in rows)]
        lines = [line for output, found in self.outputs.items() for line in _lines(output, found)]
        if self.silent:
            lines.append(f"{self.silent} of {self.doors + self.silent} doors have not told")
        title = f"drift of {self.name}, revision {self.revision}"
        return [Table([_COLUMNS[at] for at in kept], [[row[at] for at in kept] for row in rows], title, lines)]


def joined_doors(name: str, doors: Sequence[Mapping[str, Any]], silent: int) -> DriftReport:
    """What doors say of one revision, together.

    Args:
        doors: each one's ``Monitors.report``.
    """
    outputs: dict[str, dict[str, Any]] = {}
    for door in doors:
        for output, told in door["outputs"].items():
            outputs[output] = _joined(outputs[output], told) if output in outputs else dict(told)
    revision = doors[0]["revision"] if doors else ""
    return DriftReport(name, revision, outputs, len(doors), silent)


def _joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    found = {_key(s): dict(s) for s in one["statistics"]}
    for s in other["statistics"]:
        found[_key(s)] = _pooled(found[_key(s)], s) if _key(s) in found else dict(s)
    named = {(n["member"], n["kind"]): n for n in (*one["named"], *other["named"])}
    learned = {
        key: max((v for v in (one[key], other[key]) if v is not None), default=None)
        for key in ("answers_learned", "labelled_learned")
    }
    return {
        **one, **learned, "answers": one["answers"] + other["answers"], "labelled": one["labelled"] + other["labelled"],
        "statistics": list(found.values()), "named": [named[key] for key in sorted(named)],
        "changes": sorted((*one["changes"], *other["changes"]), key=lambda change: change["at_s"]),
    }  # fmt: skip


def _key(statistic: Mapping[str, Any]) -> tuple[Any, ...]:
    return statistic["kind"], tuple(statistic["members"]), statistic["about"]


def _pooled(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Means by how many answers each is of; an alarm where either has one."""
    loud = one if one["alarm"] else other
    known = [s for s in (one, other) if s["recent"] is not None]
    draws = sum(s["draws"] for s in known)
    recent = sum(s["recent"] * s["draws"] for s in known) / draws if draws else None
    return {
        **one, "recent": recent, "draws": draws, "alarm": loud["alarm"], "since_s": loud["since_s"],
        "alarms": one["alarms"] + other["alarms"], "evidence": max(one["evidence"], other["evidence"]),
    }  # fmt: skip


def _cells(output: str, one: Mapping[str, Any]) -> list[str]:
    recent = "" if one["recent"] is None else f"{one['recent']:.3f}"
    statistic = describe(Statistic(one["kind"], tuple(one["members"]), one["about"]))
    since = at(one["since_s"]) if one["alarm"] else ""
    return [output, statistic, f"{one['reference']:.3f}", recent, str(one["draws"]), one["alarm"], since]


def _lines(output: str, found: Mapping[str, Any]) -> list[str]:
    of = f"{output}: " if output else ""
    lines = [_said_of(of, one) for one in found["named"]]
    if found["answers_learned"] is not None:
        lines.append(f"{of}{found['answers_learned']} of the first {found['wanted']} answers, which are the reference")
    elif not found["named"]:
        lines.append(f"{of}nothing has drifted from {found['reference']} in {found['answers']} answers")
    if found["labelled_learned"]:
        first = f"{found['labelled_learned']} of the first {found['wanted']} labelled answers"
        lines.append(f"{of}{first}, which are the reference")
    for one in found["changes"]:
        statistic = describe(Statistic(one["kind"], tuple(one["members"]), one["about"]))
        word = "drifts" if one["raised"] else "is back"
        numbers = f"{one['reference']:.3f} to {one['recent']:.3f}"
        lines.append(f"{at(one['at_s'])} {of}{statistic} {word}: {numbers}, after {one['draws']} answers")
    return lines


def _said_of(of: str, one: Mapping[str, Any]) -> str:
    who, about = one["member"] or "the answers", f" of {', '.join(one['about'])}" if one["about"] else ""
    alike = ", as most members: what is asked may be another" if one["alike"] else ""
    return f"{of}{who}: {one['kind']}{about}{alike}"


def at(time_s: float) -> str:
    """A time as a person reads it."""
    return datetime.fromtimestamp(time_s, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
