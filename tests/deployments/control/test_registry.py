"""Revisions, doors and the lease, kept in a dict instead of a cluster's store."""

import threading
import time
from pathlib import Path

import pytest

from quorate.deployments import Doors, parse_spec
from quorate.deployments.control import registry as registry_module
from quorate.deployments.control.registry import KEPT, LEASE_S, Publication, Registry
from quorate.deployments.errors import UnavailableError
from tests.deployments.support.memory_store import MemoryStore


def publication(deadline_s=1.0, classes=("red", "green")):
    spec = {
        "name": "kept",
        "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
        "classes": list(classes),
        "members": {"a": {"model": "torch.nn:Identity", "inputs": ["x"]}},
        "fusion": {"rule": "mean", "deadline_s": deadline_s},
    }
    return Publication(parse_spec(spec), Path("/models"), {"a": "kept.a.12345678"})


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def registry(store):
    return Registry(store)


def deadlines(registry):
    return [found.spec.fusion.deadline_s for found in registry.history("kept")]


def test_what_is_recorded_comes_back_as_it_was(registry):
    recorded = publication()
    registry.record(recorded)
    assert registry.history("kept") == [recorded]
    assert Publication.from_json(recorded.to_json()) == recorded


def test_an_ensemble_that_was_never_published_has_no_history_and_the_default_doors(registry):
    assert registry.history("kept") == []
    assert registry.stored("kept") == b""
    assert registry.doors("kept") == Doors()


def test_a_revision_that_is_recorded_again_moves_to_the_end(registry):
    for deadline_s in (1.0, 2.0, 1.0):
        registry.record(publication(deadline_s))
    assert deadlines(registry) == [2.0, 1.0]


def test_a_rollback_drops_the_revision_that_it_leaves(registry):
    for deadline_s in (1.0, 2.0, 3.0):
        registry.record(publication(deadline_s))
    registry.record(publication(2.0), dropping=publication(3.0).spec.revision)
    assert deadlines(registry) == [1.0, 2.0]


def test_only_the_newest_revisions_are_kept(registry):
    for deadline_s in range(1, KEPT + 4):
        registry.record(publication(float(deadline_s)))
    assert deadlines(registry) == [float(deadline_s) for deadline_s in range(4, KEPT + 4)]


def test_live_is_the_newest_revision_of_the_replicas_own_wiring(registry):
    old, new = publication(1.0), publication(2.0, classes=("red", "green", "blue"))
    registry.record(old)
    registry.record(publication(3.0))
    registry.record(new)
    assert registry.live("kept", old.spec.wiring) == publication(3.0)
    assert registry.live("kept", new.spec.wiring) == new


def test_doors_come_back_with_the_digests_of_their_tokens(registry):
    doors = Doors("127.0.0.1", ask_tokens=("a" * 64,), management_tokens=("b" * 64,))
    registry.record_doors("kept", doors)
    assert registry.doors("kept") == doors


def test_nothing_is_left_of_an_ensemble_that_is_forgotten(registry, store):
    registry.record(publication())
    registry.record_doors("kept", Doors())
    registry.forget("kept")
    assert not store.values


def test_all_who_ask_get_the_same_keys(registry, store):
    keys = registry.cluster_keys()
    assert b"PRIVATE KEY" in keys.private_key
    assert Registry(store).cluster_keys() == keys


def test_a_lease_is_given_back_whether_the_change_succeeded_or_not(registry, store):
    with registry.lease("kept"):
        assert store.values
    assert not store.values
    with pytest.raises(RuntimeError), registry.lease("kept"):
        raise RuntimeError
    assert not store.values


def test_a_second_change_of_the_same_ensemble_waits_and_then_says_what_is_under_way(registry):
    with registry.lease("kept"):
        with registry.lease("another", wait_s=0):
            pass
        with (
            pytest.raises(UnavailableError, match="another revision of 'kept' is being published; retry when it is"),
            registry.lease("kept", wait_s=0),
        ):
            pass


def test_a_second_change_goes_on_when_the_first_is_done(registry):
    order, waiting = [], threading.Event()

    def second():
        waiting.set()
        with registry.lease("kept"):
            order.append("second")

    thread = threading.Thread(target=second)
    with registry.lease("kept"):
        thread.start()
        waiting.wait(5)
        order.append("first")
    thread.join(20)
    assert order == ["first", "second"]


def test_the_lease_of_a_process_that_died_is_taken_over(registry, store):
    store.put("publishing/kept", f"{time.time() - LEASE_S - 1} somebody".encode())
    with registry.lease("kept", wait_s=0):
        assert b"somebody" not in store.get("publishing/kept")


def test_a_lease_is_renewed_for_as_long_as_it_is_held(registry, store, monkeypatch):
    monkeypatch.setattr(registry_module, "LEASE_S", 0.03)
    with registry.lease("kept"):
        first, until = store.get("publishing/kept"), time.monotonic() + 20
        while (renewed := store.get("publishing/kept")) == first and time.monotonic() < until:
            time.sleep(0.01)
    assert float(renewed.split()[0]) > float(first.split()[0])
    assert renewed.split()[1] == first.split()[1]
    assert not store.values


def test_a_lease_that_was_taken_over_is_not_given_back_by_its_first_holder(registry, store):
    with registry.lease("kept"):
        store.put("publishing/kept", b"1e18 another")
    assert store.get("publishing/kept") == b"1e18 another"
