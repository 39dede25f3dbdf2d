"""Where doors did not start, for all who look."""

from quorate.deployments.records.door_failures import DoorFailures
from tests.deployments.support.memory_store import MemoryStore


def test_failures_in_a_row_are_counted_by_node_and_ensemble():
    store = MemoryStore()
    first, second = DoorFailures(store, "one"), DoorFailures(store, "two")
    first.note(["10.0.0.1", "10.0.0.2"])
    first.note(["10.0.0.1"])
    second.note(["10.0.0.1"])
    assert first.counts() == {"10.0.0.1": 2, "10.0.0.2": 1}
    first.forget(["10.0.0.1", "10.0.0.3"])
    assert (first.counts(), second.counts()) == ({"10.0.0.2": 1}, {"10.0.0.1": 1})
