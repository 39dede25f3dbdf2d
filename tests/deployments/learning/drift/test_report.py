"""What several doors saw is one report; a record goes through the same watch."""

import json

import numpy as np

from quorate.deployments.learning.drift.monitor import Monitor, Settings
from quorate.deployments.learning.drift.report import DriftReport, joined_doors
from tests.deployments.support.drift_rows import SUBJECT, as_rows, said


def told(random, broken):
    """A door's report, of 500 answers after its reference; ``broken`` of them by a member that is."""
    monitor = Monitor(SUBJECT, Settings(("disagreement", "confidence"), rows=300))
    monitor.see(as_rows(said(random, 300)[0]))
    probs, _ = said(random, 500)
    probs[1, 500 - broken :] = random.dirichlet(np.ones(3), broken)
    changes = monitor.see(as_rows(probs))
    return {"revision": "r", "outputs": {"": monitor.report() | {"changes": [one.to_json() for one in changes]}}}


def test_an_alarm_at_one_door_is_one_of_all_and_answers_add_up():
    random = np.random.default_rng(0)
    doors = [told(random, 0), told(random, 300)]
    found = joined_doors("e", doors, 1)
    assert found.drifted
    assert not joined_doors("e", doors[:1], 0).drifted
    (output,) = found.outputs.values()
    assert output["answers"] == 1600
    assert {one["member"] for one in output["named"] if one["member"]} == {"b"}
    key = ("confidence", ["c"])
    means = [
        next(one for one in door["outputs"][""]["statistics"] if (one["kind"], one["members"]) == key) for door in doors
    ]
    mine = next(one for one in output["statistics"] if (one["kind"], one["members"]) == key)
    assert mine["draws"] == 1000
    assert mine["recent"] == np.mean([one["recent"] for one in means])
    shown = repr(found)
    assert "distance of a and b" in shown
    assert "b: disagreement" in shown
    assert "1 of 3 doors have not told" in shown


def test_a_report_comes_back_from_json():
    found = joined_doors("e", [told(np.random.default_rng(1), 300)], 0)
    assert DriftReport.from_dict(json.loads(json.dumps(found.to_dict()))) == found
