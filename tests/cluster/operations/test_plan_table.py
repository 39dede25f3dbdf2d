"""What a plan says of memory, here and after its way through the Jobs API."""

import json

from quorate.cluster.operations.plan import Plan, _from_dict, _under_load
from quorate.deployments.control.placement import Placed, PlannedApp
from quorate.deployments.records.memory_needs import Needs
from quorate.deployments.spec.fields.fusion import FusionSpec

PLAN = Plan(
    (
        PlannedApp("a", "e.a.1", "starts", "", (Placed("a", 0, "n"),), needs=Needs(1_200_000_000, measured=True)),
        PlannedApp("b", "e.b.1", "stays", "", (), ("e.b.0",), Needs(gpu_bytes=3_000_000)),
    )
)


def test_memory_stands_beside_each_part():
    (table,) = PLAN.tables()
    assert [(row[0], row[3]) for row in table.rows] == [("a", "1.2 GB"), ("b", "3 MB of a GPU or more")]


def test_a_plan_that_another_machine_made_says_the_same():
    assert _from_dict(json.loads(json.dumps(PLAN.to_dict()))).tables() == PLAN.tables()


def test_it_says_what_is_left_of_answers_under_too_much_load():
    assert _under_load(FusionSpec(rule="mean")) == []
    (said,) = _under_load(FusionSpec(rule="mean", overload="thin", quorum=2))
    assert said.startswith("under too much load who has the least weight for its time is left out first, down to 2;")
    steps = [{"without": "b", "expected": {"accuracy": 0.97}}, {"without": "a", "expected": {"accuracy": 0.9}}]
    tuned = {"rule": "mean", "overload": "thin", "thinning": {"expected": {"accuracy": 0.98}, "steps": steps}}
    assert _under_load(FusionSpec.model_validate(tuned)) == [
        "under too much load members are left out one by one; of all: accuracy 0.9800; "
        "1. without b: accuracy 0.9700; 2. without a: accuracy 0.9000"
    ]
