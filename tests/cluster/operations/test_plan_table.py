"""What a plan says of memory, here and after its way through the Jobs API."""

import json

from quorate.cluster.operations.plan import Plan, _from_dict
from quorate.deployments.control.placement import Placed, PlannedApp
from quorate.deployments.records.memory_needs import Needs

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
