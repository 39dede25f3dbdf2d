"""A tuned spec that watches for drift knows how its held-out rows were answered."""

import numpy as np
import pytest

from quorate.deployments.engine.revision import build_revision
from quorate.deployments.learning.drift.kept_reference import fusion_name, load_references
from quorate.deployments.learning.drift.monitor import Monitor, Settings
from quorate.deployments.learning.drift.rows import Rows, Subject
from quorate.deployments.spec.fields.drift import DriftSpec
from quorate.tuning import run_in_process, tune_fusion

pytestmark = pytest.mark.long


def test_each_spec_of_a_run_has_the_reference_of_its_own_answers(tiny, tmp_path):
    spec = tiny.spec.model_copy(update={"drift": DriftSpec()})
    test = tiny.splits.test
    tuned = tune_fusion(spec, tiny.folder, tiny.splits.validation, test, runs=tmp_path / "runs")
    assert tuned.spec.drift is not None
    assert tuned.spec.drift.reference is not None
    (reference,) = load_references(tuned.folder / tuned.spec.drift.reference).values()
    revision = build_revision(tuned.spec, tuned.folder)
    assert reference.fusion == fusion_name(revision.fusion)
    said = np.stack([run_in_process(tuned.spec.job(name), tuned.folder, test.inputs) for name in revision.asked])
    fused = revision.fuse(said, np.ones(said.shape[:2], bool)).values
    known = {(one.kind, one.members, one.about): k for one, k in reference.known.items()}
    assert known["confidence", (), ""].mean == pytest.approx(fused.max(axis=1).mean(), abs=1e-4)
    first = revision.asked[0]
    assert known["confidence", (first,), ""].mean == pytest.approx(said[0].max(axis=1).mean(), abs=1e-4)
    # The rows that are the reference have not drifted from it.
    watched = Monitor(Subject("classification", revision.asked, spec.classes), Settings(), reference, reference.fusion)
    count = len(test)
    rows = Rows(
        said,
        np.zeros(said.shape[:2], np.uint8),
        fused,
        np.ones(count, bool),
        np.arange(count),
        np.arange(count, dtype=np.float64),
    )
    assert watched.see(rows) == []
    assert watched.report()["answers_learned"] is None
    others = [path.name for path in tuned.folder.glob("drift-*.json")]
    assert len(others) == len([*tuned.folder.glob("spec*.yaml")])
