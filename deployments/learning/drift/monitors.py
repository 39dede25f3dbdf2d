"""All outputs of one revision under watch, and what goes on when another one follows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from quorate.deployments.engine.revision import Revision
from quorate.deployments.learning.drift.kept_reference import fusion_name
from quorate.deployments.learning.drift.labelled_rows import LabelledPart
from quorate.deployments.learning.drift.monitor import Monitor, Settings
from quorate.deployments.learning.drift.reference import Reference
from quorate.deployments.learning.drift.rows import Rows, Subject
from quorate.deployments.learning.drift.sequential_tests import Change
from quorate.deployments.learning.shadows.fitting import views_of
from quorate.deployments.spec.fields.drift import DriftSpec

# Changes that are told in a report.
SHOWN = 50


class Monitors:
    """Watches outputs.

    Attributes:
        revision: whose they are; None at first.
        by_output: the name is empty where there is one.
    """

    def __init__(self, spec: DriftSpec):
        self._settings = Settings(spec.statistics, spec.rows, spec.false_alarms, spec.tolerance)
        self.revision: Revision | None = None
        self.by_output: dict[str, Monitor] = {}
        self._changes: dict[str, list[Change]] = {}

    def follow(self, revision: Revision, given: Mapping[str, Reference]) -> None:
        """Watch another revision: what is the same of its members goes on.

        Args:
            given: what is known beforehand, by name of the output.
        """
        before, old = self.revision, self.by_output
        self.revision, self.by_output = revision, {}
        for name, view in views_of(revision).items():
            known = given.get(view.graph.output.name)
            if known is None and before is not None and name in old:
                known = _still(old[name].learned, before, revision)
            monitor = Monitor(_subject(view), self._settings, known, fusion_name(view.fusion))
            if name in old:
                monitor.carry_on(old[name])
            self.by_output[name] = monitor

    def see(self, output: str, rows: Rows) -> list[Change]:
        """Take rows, and say which alarms begin and end."""
        return self._told(output, self.by_output[output].see(rows))

    def see_labelled(self, part: LabelledPart, revisions: Mapping[str, Revision]) -> list[Change]:
        """The same of rows whose labels came; of answers of another revision only members are looked at.

        Args:
            revisions: those that are known, by name.
        """
        assert self.revision is not None
        monitor, rows = self.by_output.get(part.output), part.rows
        if part.revision != self.revision.name:
            known = revisions.get(part.revision)
            old = None if known is None else views_of(known).get(part.output)
            if monitor is None or old is None or old.asked != monitor.subject.members:
                return []
            rows = replace(rows, said=np.zeros_like(rows.said))
        return [] if monitor is None else self._told(part.output, monitor.see(rows))

    def _told(self, output: str, found: list[Change]) -> list[Change]:
        if found:
            kept = self._changes.setdefault(output, [])
            kept += found
            del kept[:-SHOWN]
        return found

    def learned(self) -> dict[str, Reference] | None:
        """What was usual, by name of the output; None while first answers are waited for."""
        assert self.revision is not None
        named = {view.graph.output.name: self.by_output[name] for name, view in views_of(self.revision).items()}
        found = {name: one.learned for name, one in named.items()}
        whole = {name: one for name, one in found.items() if one is not None}
        return whole if len(whole) == len(found) else None

    def report(self) -> dict[str, Any]:
        """How all stand, in JSON's types."""
        changes = {name: [one.to_json() for one in self._changes.get(name, ())] for name in self.by_output}
        outputs = {name: one.report() | {"changes": changes[name]} for name, one in self.by_output.items()}
        return {"revision": "" if self.revision is None else self.revision.name, "outputs": outputs}


def _subject(view: Revision) -> Subject:
    """Whose answers one output's are."""
    classes = view.spec.classes or ()
    return Subject(view.spec.inferred_task, view.asked, classes, not view.graph.output.reads_features)


def _still(learned: Reference | None, before: Revision, now: Revision) -> Reference | None:
    """What was learned of members that are what they were; of the answers only where all of them are."""
    if learned is None:
        return None
    old, new = before.spec, now.spec
    same = [name for name in new.members if name in old.members and old.job(name) == new.job(name)]
    return learned if {*old.members} == {*same} == {*new.members} else learned.of_members(same)
