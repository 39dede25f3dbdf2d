"""One change at a time, in a dict instead of a cluster's store."""

import getpass
import json
import threading
from types import SimpleNamespace

import pytest

from quorate.deployments.errors import ConflictError, UnavailableError
from quorate.deployments.records import lease as lease_module
from quorate.deployments.records.lease import hold
from tests.deployments.support.memory_store import MemoryStore


@pytest.fixture
def store():
    return MemoryStore()


def leave_behind(store, number=1):
    """A lease whose holder died."""
    value = {"holder": "a deployment by anna on head", "since": "10:00:00 UTC", "beat": 7, "over": False}
    store.put(f"lease/kept/{number}", json.dumps(value).encode())


def test_a_lease_ends_whether_the_change_succeeded_or_not(store):
    with hold(store, "kept", "a deployment"):
        pass
    with pytest.raises(RuntimeError), hold(store, "kept", "a deployment"):
        raise RuntimeError
    with hold(store, "kept", "a deployment", wait_s=0) as third:
        assert third.number == 3


def test_a_second_change_waits_and_then_is_told_who_does_what(store):
    with hold(store, "kept", "a deployment"):
        with hold(store, "another", "a deployment", wait_s=0):
            pass
        with (
            pytest.raises(ConflictError, match=r"'kept' is being changed: a deployment by .+ on .+, since .+;"),
            hold(store, "kept", "a publication", wait_s=0),
        ):
            pass


def test_a_second_change_goes_on_when_the_first_is_done(store):
    order, waiting = [], threading.Event()

    def second():
        waiting.set()
        with hold(store, "kept", "a publication"):
            order.append("second")

    thread = threading.Thread(target=second)
    with hold(store, "kept", "a deployment"):
        thread.start()
        waiting.wait(5)
        order.append("first")
    thread.join(20)
    assert order == ["first", "second"]


def test_who_does_something_waits_for_what_a_cluster_does_by_itself_and_not_the_other_way_round(store, monkeypatch):
    order, waiting = [], threading.Event()
    monkeypatch.setattr(lease_module, "BY_ITSELF_S", 60.0)

    def operator():
        waiting.set()
        with hold(store, "kept", "a deployment", wait_s=0.01):
            order.append("operator")

    thread = threading.Thread(target=operator)
    with hold(store, "kept", "a move of its doors", by_itself=True):
        thread.start()
        waiting.wait(5)
        with pytest.raises(ConflictError), hold(store, "kept", "a move of its doors", wait_s=0, by_itself=True):
            pass
        thread.join(0.1)
        order.append("itself")
    thread.join(20)
    assert order == ["itself", "operator"]


def test_of_many_who_want_a_dead_holders_lease_one_gets_it_at_a_time(store, monkeypatch):
    monkeypatch.setattr(lease_module, "LEASE_S", 0.2)
    leave_behind(store)
    inside, most, numbers, lock = [], [], [], threading.Lock()

    def change():
        with hold(store, "kept", "a publication", wait_s=30) as lease:
            with lock:
                inside.append(1)
                most.append(len(inside))
                numbers.append(lease.number)
            with lock:
                inside.pop()

    threads = [threading.Thread(target=change) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(numbers) == [2, 3, 4, 5, 6, 7]
    assert max(most) == 1


def test_a_number_that_others_have_taken_and_forgotten_meanwhile_is_not_taken_again(store, monkeypatch):
    put, before = store.put, list[str]()

    def late(key, value, overwrite=True):
        if not overwrite and not before:
            before.append(key)
            for _ in range(2):  # the second forgets the first, whose number the one that is late is about to take
                with hold(store, "kept", "a publication"):
                    pass
        return put(key, value, overwrite)

    monkeypatch.setattr(store, "put", late)
    with hold(store, "kept", "a deployment") as lease:
        assert lease.number == 3
        lease.check()
    assert store.keys("lease/kept/") == ["lease/kept/3"]


def test_of_two_leases_that_say_the_same_of_their_holder_one_is_taken(store):
    """A store says of a value that is there already that it has been put."""
    leases = [lease_module.Lease(store, "kept", 1, "a deployment by anna on head") for _ in range(2)]
    assert [lease.start() for lease in leases] == [True, False]
    leases[0].end()


@pytest.mark.long
def test_a_holder_that_is_alive_keeps_its_lease_for_as_long_as_it_needs(store, monkeypatch):
    monkeypatch.setattr(lease_module, "LEASE_S", 1.0)
    with hold(store, "kept", "a deployment") as lease:
        with pytest.raises(ConflictError), hold(store, "kept", "a publication", wait_s=3.0):
            pass
        lease.check()


def test_time_in_which_the_store_was_away_does_not_count_against_a_holder(store, monkeypatch):
    now = iter(range(0, 10**6, 3600))  # an hour between two looks
    leave_behind(store)
    waiter = lease_module._Waiter(store, "kept")
    monkeypatch.setattr(lease_module, "time", SimpleNamespace(monotonic=lambda: next(now)))
    assert [waiter.free_number() for _ in range(3)] == [None] * 3


def test_a_holder_that_was_taken_over_is_told_before_it_does_harm(store, monkeypatch):
    with hold(store, "kept", "a deployment") as lease:
        leave_behind(store, number=2)
        with pytest.raises(ConflictError, match="'kept' was taken over by another command"):
            lease.check()


def test_a_store_that_is_away_is_said_and_leaves_no_holder(store, monkeypatch):
    def away(key, value, overwrite=True):
        raise UnavailableError("the cluster's head does not answer")

    monkeypatch.setattr(store, "put", away)
    with pytest.raises(UnavailableError, match="head does not answer"), hold(store, "kept", "a deployment"):
        pass
    assert not store.values


def test_a_user_without_a_name_can_hold_a_lease_too(store, monkeypatch):
    def nameless():
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", nameless)
    with (
        hold(store, "kept", "a deployment"),
        pytest.raises(ConflictError, match=r"a deployment by user \d+ on "),
        hold(store, "kept", "a publication", wait_s=0),
    ):
        pass
