"""A record goes through the same watch as its door's answers: the same member is named, labels count when they came."""

import numpy as np
import pytest

from quorate.deployments import Client
from quorate.deployments.errors import RequestError
from quorate.deployments.learning.drift.from_record import drift_of_record
from quorate.deployments.learning.reading import open_record
from quorate.tuning.evaluation.replay import replay
from tests.deployments.support.drifting_ensemble import asked_rows, drifting_spec
from tests.deployments.support.factories.drifting import CLASSES
from tests.deployments.support.waiting import until


@pytest.fixture(scope="module")
def record(open_doors, tmp_path_factory):
    """600 answers, of the last 200 by a second that is broken; each with the label that the others give."""
    folder = tmp_path_factory.mktemp("record")
    kept = {"folder": str(folder)}
    statistics = ["disagreement", "dissent", "loss", "missing"]
    spec = drifting_spec("kept", {"rows": 200, "statistics": statistics}, record=kept)
    doors, random = open_doors(spec), np.random.default_rng(0)
    rows = np.concatenate([asked_rows(random, 400), asked_rows(random, 200, broken=2)])
    with Client(doors.http, model="kept") as client:
        for row in rows:
            client.feedback(client.infer(x=row[None]), [CLASSES[int(row[:3].argmax())]])
    found = open_record(folder)
    until(lambda: sum(map(len, found.rows())) == len(rows))
    return found


def watched(record, tmp_path, labels=None):
    def revision_of(rows):
        return record.revision(rows.about.revision, tmp_path)

    return drift_of_record(record, labels or record.labels(), revision_of)


def test_who_broke_is_named_by_answers_and_by_labels(record, tmp_path):
    found = watched(record, tmp_path)
    (output,) = found.outputs.values()
    assert (output["answers"], output["labelled"], found.name) == (600, 600, "kept")
    named = {(one["member"], one["kind"]) for one in output["named"]}
    assert {("second", "disagreement"), ("second", "dissent"), ("second", "loss")} <= named
    assert {member for member, _ in named} <= {"second", ""}
    times = np.sort(np.concatenate([rows.times_us for rows in record.rows()])) / 1e6
    assert all(one["at_s"] > times[399] for one in output["changes"])
    assert "second: disagreement" in repr(found)


def test_a_revision_that_is_not_beside_the_record_is_said_to_be_missing(record):
    def gone(rows):
        raise RequestError("it is gone")

    with pytest.raises(RequestError, match="holds no answers of revisions beside it"):
        drift_of_record(record, record.labels(), gone)


def test_a_replay_says_it_too(record):
    found = replay(record, drift=True)
    assert found.drift is not None
    assert found.exact == found.rows == 600
    assert "second: disagreement" in repr(found)
    assert found.to_dict()["drift"]["drifted"]
