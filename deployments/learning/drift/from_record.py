"""Which alarms a record would have raised: its answers and labels go through the watch as time went."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from quorate.deployments.engine.revision import Revision
from quorate.deployments.errors import RequestError, SpecError
from quorate.deployments.learning.drift.kept_reference import load_references
from quorate.deployments.learning.drift.labelled_rows import LateLabels, answered_rows
from quorate.deployments.learning.drift.monitors import Monitors
from quorate.deployments.learning.drift.reference import Reference
from quorate.deployments.learning.drift.report import DriftReport, joined_doors
from quorate.deployments.learning.reading import Labels, Record, RecordedRows
from quorate.deployments.spec.fields.drift import DriftSpec
from quorate.fusion.errors import QuorateError


def drift_of_record(
    record: Record, labels: Labels, revision_of: Callable[[RecordedRows], Revision], name: str = ""
) -> DriftReport:
    """Look for drift in a record, as closely as its last revision says, or else as ``drift: {}`` would.

    Args:
        revision_of: whose answers rows are, whole where it has several outputs.

    Raises:
        RequestError: it holds no answer of a revision that is there.
    """
    revisions, settings = _revisions(record, revision_of)
    if not revisions:
        raise RequestError(f"{record.folder.location} holds no answers of revisions beside it; record some")
    monitors, late = Monitors(settings), LateLabels(record, labels)
    for rows in record.rows_in_order():
        revision = revisions.get(rows.about.revision)
        if revision is None:
            continue
        if revision is not monitors.revision:
            monitors.follow(revision, _given(revision, settings))
        for part in late.until(float(rows.times_us[0]) / 1e6):
            monitors.see_labelled(part, revisions)
        monitors.see(rows.about.output if rows.about.several else "", answered_rows(rows))
    for part in late.until(math.inf):
        monitors.see_labelled(part, revisions)
    assert monitors.revision is not None
    spec = monitors.revision.spec
    return replace(joined_doors(name or spec.name, [monitors.report()], 0), doors=0)


def _revisions(
    record: Record, revision_of: Callable[[RecordedRows], Revision]
) -> tuple[dict[str, Revision], DriftSpec]:
    """Revisions that are beside a record by name, and how closely the last one looks."""
    found: dict[str, Revision | None] = {}
    settings = DriftSpec()
    for rows in record.rows_in_order():
        name = rows.about.revision
        if name not in found:
            try:
                found[name] = revision_of(rows)
            except (QuorateError, SpecError):  # who replays says so
                found[name] = None
        last = found[name]
        if last is not None:
            settings = last.spec.drift or settings
    return {name: one for name, one in found.items() if one is not None}, settings


def _given(revision: Revision, settings: DriftSpec) -> Mapping[str, Reference]:
    """The reference that the spec names, where it is beside the record."""
    if settings.reference is None:
        return {}
    try:
        return load_references(revision.folder / settings.reference)
    except SpecError:
        return {}
