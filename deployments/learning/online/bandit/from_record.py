"""A record gone through again as labels came to it: whom a bandit would have learned to ask, and what went live."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from quorate.deployments.display import Displayed, Table
from quorate.deployments.engine.revision import Revision
from quorate.deployments.learning.online.bandit.learner import BanditLearner, joined
from quorate.deployments.learning.online.bandit.rows import ToldRows, told_by
from quorate.deployments.learning.online.bandit.telling import said_of, tables_of
from quorate.deployments.learning.reading import Labels, Record, RecordedRows
from quorate.deployments.spec.checks.check_online import why_no_bandit_learns
from quorate.fusion.errors import QuorateError
from quorate.fusion.learned.bandit import Bandit


@dataclass(repr=False)
class PolicyHistory(Displayed):
    """What came of learning one output's bandit.

    Attributes:
        report: as ``BanditLearner.report`` gives it.
        left_out: labelled rows that tell nothing, by why.
    """

    report: dict[str, Any]
    left_out: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return {**self.report, "left_out": dict(self.left_out)}

    def tables(self) -> Sequence[Table]:
        """Through time, and what would have gone live."""
        lines = [said_of(self.report), *(f"{count} labelled rows tell nothing: {why}" for why, count in
                                         self.left_out.items())]  # fmt: skip
        nothing = "nothing would have gone live: nothing better was shown to be so, and to keep the floor"
        return [*tables_of(self.report, nothing), Table(lines=lines)]


def bandits_from_record(
    record: Record, labels: Labels, revision_of: Callable[[RecordedRows], Revision],
    writer_of: Callable[[RecordedRows], Revision],
) -> dict[str, PolicyHistory]:  # fmt: skip
    """Learn each output's bandit from a record.

    Args:
        revision_of: whose bandit it begins with: that of the first rows that have one which can learn.
        writer_of: whoever answered rows, as the revision of one output.

    Returns:
        By output; none where no row has a label, or no bandit can learn.
    """
    told: dict[str, list[ToldRows]] = {}
    first: dict[str, Revision] = {}
    left_out: dict[str, Counter[str]] = {}
    for rows in record.rows_in_order():
        found, output = labels.of(rows), rows.about.output
        if not any(label is not None for label in found):
            continue
        try:
            if output not in first and not _learns(revision_of(rows)):
                continue
            policy = first.setdefault(output, revision_of(rows))
            left = left_out.setdefault(output, Counter())
            parts = told.setdefault(output, [])
            parts.append(told_by(rows, found, labels.came_us(rows), policy, writer_of(rows), left))
        except QuorateError as error:
            left_out.setdefault(output, Counter())[str(error)] += sum(label is not None for label in found)
    histories = {}
    for output, parts in told.items():
        taken, rule = joined(parts), first[output].graph.output.rule
        if taken is not None and isinstance(rule, Bandit):
            learner = BanditLearner(output, rule)
            learner.take(taken)
            histories[output] = PolicyHistory(learner.report(), left_out[output])
    return histories


def _learns(revision: Revision) -> bool:
    rule = revision.graph.output.rule
    return isinstance(rule, Bandit) and not why_no_bandit_learns(rule.options)
