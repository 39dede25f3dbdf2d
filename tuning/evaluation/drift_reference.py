"""How held-out rows were answered, beside a spec that watches for drift: what its doors compare their answers with."""

# M members, N rows

from __future__ import annotations

from pathlib import Path

import numpy as np

from quorate.deployments.engine.revision import build_revision
from quorate.deployments.learning.drift.kept_reference import fusion_name, save_references
from quorate.deployments.learning.drift.reference import KINDS, reference_of
from quorate.deployments.learning.drift.rows import Rows, Subject
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.transport.row_state import RowState
from quorate.tuning.alternatives.base import Outputs, answers_of
from quorate.tuning.alternatives.recipe import Recipe

SOURCE = "the held-out rows of tune"


def with_reference(
    spec: EnsembleSpec, recipe: Recipe, judge: Outputs, where: Path, name: str, left_out: int = 0
) -> EnsembleSpec:
    """The spec with the name of such a file, which is written, where the spec watches for drift and has one output.

    Args:
        recipe: its fusion, whose files are in ``where`` already.
        judge: held-out rows that all members answered, and ``left_out`` how many they did not.
        name: of the file.
    """
    if spec.drift is None or spec.outputs or judge.sequences is not None or judge.lists:
        return spec
    asked, count = build_revision(spec, where).asked, len(judge)
    outputs = judge.probs[[judge.names.index(one) for one in asked]]
    fused = answers_of(recipe, judge)
    rows = Rows(
        outputs, np.full(outputs.shape[:2], RowState.OK, np.uint8), fused, np.asarray(np.isfinite(fused).all(axis=1)),
        np.arange(count), np.zeros(count), judge.labels,
    )  # fmt: skip
    # Rows that a member failed on are not here: how many is learned from answers then.
    kinds = [kind for kind in KINDS.values() if not (left_out and kind.name == "missing")]
    subject = Subject(spec.inferred_task, asked, spec.classes or ())
    file = f"drift-{name}.json"
    found = reference_of(subject, kinds, [rows], SOURCE, fusion_name(spec.output_fusion))
    save_references({spec.output_name: found}, where / file)
    return spec.model_copy(update={"drift": spec.drift.model_copy(update={"reference": file})})
