"""How good shadows are beside the live fusion, by the labels that have come: what a report of them says."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from quorate.deployments.errors import RequestError

if TYPE_CHECKING:
    from quorate.deployments.control.shadows import ShadowStates
    from quorate.deployments.learning.shadows.judging import JudgedSums
    from quorate.deployments.records.registry import Record
    from quorate.tuning.evaluation.judged_shadows import Judged

# By shadow and output, verdicts by one metric each, in JSON's types.
JudgedByOutput = dict[tuple[str, str], tuple[dict[str, Any], ...]]


def judged_by_labels(record: Record, states: ShadowStates) -> tuple[JudgedByOutput, str]:
    """Shadows by labels: of the whole record, or, where members are asked for a shadow alone, of what doors remember.

    Returns:
        By shadow and output, and why there is nothing by labels, where there is nothing.
    """
    by_record, why = _judged_by_record(record)
    found = {key: tuple(_plain(one) for one in judged) for key, judged in by_record.items()}
    for name, state in states.shadows.items():
        for output, sums in state.judged.items():
            found.setdefault((name, output), (_of_sums(sums),))
    return found, "" if found else why


def _of_sums(sums: JudgedSums) -> dict[str, Any]:
    """As ``Judged`` in JSON."""
    means = {"live": sums.live / sums.rows, "shadow": sums.shadow / sums.rows}
    bounds = {name: sums.to_json()[name] for name in ("gain", "least", "most")}
    return {"metric": sums.metric, "rows": sums.rows, "answers": sums.answers, **means, **bounds}


def _judged_by_record(record: Record) -> tuple[dict[tuple[str, str], list[Judged]], str]:
    from quorate.deployments.control.built_revision import built
    from quorate.deployments.learning.reading import open_record
    from quorate.tuning.evaluation.judged_shadows import judge_shadows

    kept, name = record.live.spec.record, record.live.spec.name
    if kept is None:
        return {}, "nothing by labels: nothing is recorded; deploy with record: {folder: ...}"
    try:
        found = open_record(kept.folder_of(name))
    except RequestError as error:
        return {}, f"nothing by labels: {error}"
    shadows = {one.spec.revision: built(one) for one in record.shadows if not one.own}
    judged = judge_shadows(found, built(record.live), shadows)
    return judged, "" if judged else f"nothing by labels: none has come for answers in {kept.folder}"


def _plain(judged: Judged) -> dict[str, Any]:
    """As JSON would hold it, which has no infinity: bounds that nothing is known of are None."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(judged).items()}
