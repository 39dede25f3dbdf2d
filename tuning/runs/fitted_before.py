"""Was the spec that is tuned fitted by an earlier run on the rows that are to judge it?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.data.overlap import shared_rows
from quorate.tuning.errors import PromotionError
from quorate.tuning.runs.advice import read_advice
from quorate.tuning.runs.probe import probe_inputs


def fitted_before(spec: EnsembleSpec, folder: Path, held_out: Labelled) -> list[str]:
    """A sentence where it was: by the rows of the probe in the folder of a run that fitted again on all rows."""
    try:
        report = read_advice(folder)
        known = probe_inputs(folder, spec) if _again(report) else {}
    except PromotionError:  # a run that cannot be read says nothing
        return []
    if not known or not known.keys() <= held_out.inputs.keys():
        return []
    if not shared_rows(known, {name: held_out.inputs[name] for name in known}):
        return []
    return ["the spec was fitted on rows that judge here, by the run it is of: what it has as it is flatters it"]


def _again(report: Mapping[str, Any]) -> bool:
    parts = report.get("outputs", {"": report})
    return any((part.get("refit") or {}).get("rows") for part in parts.values())
