"""Of many replicas a fusion replica connects to some: those on its node, and others so that all have about as many."""

from collections import Counter

from quorate.deployments.routing.member import Member
from quorate.deployments.routing.nearest import MOST, nearest
from quorate.deployments.routing.replica import Address


def addresses(count):
    return {f"r{n}": Address(f"r{n}", f"n{n // 2}") for n in range(count)}


def test_all_where_there_are_few_and_no_more_than_the_most_with_those_on_this_node_where_there_are_many():
    assert nearest(addresses(MOST), "n3", "door") == addresses(MOST)
    chosen = nearest(addresses(10 * MOST), "n3", "door")
    assert len(chosen) == MOST
    assert {"r6", "r7"} <= chosen.keys()


def test_every_replica_has_fusion_replicas_and_none_has_twice_the_mean():
    found = addresses(500)
    load = Counter(name for door in range(500) for name in nearest(found, "elsewhere", f"door{door}"))
    assert load.keys() == found.keys()
    assert max(load.values()) < 2 * MOST


def test_one_that_goes_is_replaced_by_one_and_the_others_stay():
    found = addresses(200)
    before = nearest(found, "elsewhere", "door")
    gone = next(iter(before))
    after = nearest({name: address for name, address in found.items() if name != gone}, "elsewhere", "door")
    assert before.keys() - after.keys() == {gone}
    assert len(after) == MOST


def test_a_member_connects_to_no_more():
    connected = []

    def connect(address, on_lost):
        connected.append(address.replica_id)
        return FakePeer()

    member = Member("m", connect, own="door")
    member.set_replicas(addresses(100))
    assert sorted(connected) == sorted(nearest(addresses(100), "", "door"))


class FakePeer:
    ready = True
    outstanding_rows = 0
