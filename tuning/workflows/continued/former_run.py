"""A run of tune that was there before: what it recommends, all its members, and what they said."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import load_spec
from quorate.tuning.errors import TuningError
from quorate.tuning.predictions.kept_rows import KeptRows
from quorate.tuning.predictions.store import PredictionStore
from quorate.tuning.runs.run_folder import SPEC
from quorate.tuning.workflows.run_members import HELD_OUT, VALIDATION

_PREDICTIONS = "predictions"
# The split of rows that members were trained on: nothing is solved on them, or judged.
TRAINED = "trained"
_FIX = "give the folder of a run of quorate tune SPEC --data, or a spec in it"


@dataclass(frozen=True)
class FormerRun:
    """A run's folder.

    Attributes:
        served: the spec that is taken on: what the run recommends, or another one of its specs.
        whole: a spec of the same run that has all its members, also those that ``served`` does without.
        store: what members said.
        solved, judged, trained: the rows that were solved on, judged on, and that members were trained on since.
    """

    folder: Path
    served: EnsembleSpec
    whole: EnsembleSpec
    store: PredictionStore
    solved: KeptRows
    judged: KeptRows
    trained: KeptRows


def former_run(place: str | Path) -> FormerRun:
    """Read it.

    Args:
        place: the run's folder, or a spec in it; of a sweep a member of the Pareto set.

    Raises:
        TuningError: it is no run, or one that cannot be taken on.
        SpecError: its spec cannot be read.
    """
    path = Path(place)
    file = path / SPEC if path.is_dir() else path
    folder = file.parent
    if not file.is_file():
        raise TuningError("more", f"{place} is no run: there is no {file}", _FIX)
    served = load_spec(file)
    if served.outputs or served.of_tokens:
        found = "several outputs" if served.outputs else "tokens"
        fix = "tune it anew on all rows: quorate tune SPEC --data"
        raise TuningError("more", f"a run of {found}, which is not taken on", fix)
    places = [one for one in (folder, folder.parent.parent) if (one / _PREDICTIONS).is_dir()]
    if not places:
        raise TuningError("more", f"{folder} holds no predictions", _FIX)
    store = PredictionStore(places[0] / _PREDICTIONS)
    solved, judged = store.rows(VALIDATION), store.rows(HELD_OUT)
    if solved is None or judged is None:
        found = "its predictions have no labels beside them: an earlier version of Quorate made them"
        raise TuningError("more", f"{folder}: {found}", "tune the spec once more: quorate tune SPEC --data")
    none = KeptRows(np.zeros(0, np.uint64), solved.rows.rows(slice(0, 0)), "")
    return FormerRun(folder, served, _whole(folder, served), store, solved, judged, store.rows(TRAINED) or none)


def _whole(folder: Path, served: EnsembleSpec) -> EnsembleSpec:
    """The spec with the most members among a run's: the recommended one may do without some."""
    others = [load_spec(file) for file in sorted(folder.glob("spec-*.yaml"))]
    alike = [one for one in others if (one.inputs, one.classes) == (served.inputs, served.classes)]
    found = max([served, *alike], key=lambda one: len(one.output_fusion.members))
    return found if set(served.output_fusion.members) <= set(found.output_fusion.members) else served
