"""What a process of a member runs, without Serve around it."""

import socket

import numpy as np
import psutil
import pytest

from quorate.deployments import parse_spec
from quorate.deployments.errors import MemberLoadError
from quorate.deployments.logs.files import LogFile
from quorate.deployments.members import replica as replica_module
from quorate.deployments.members.replica import MemberReplica, Place
from quorate.deployments.transport.keys import ClusterKeys
from tests.deployments.support.member_threads import FACTORIES
from tests.deployments.support.waiting import until


def job(**config):
    member = {"model": "known:known", "config": config, "inputs": ["x"], "output": "probabilities"}
    spec = {
        "name": "one",
        "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
        "classes": ["red", "green", "blue"],
        "members": {"m": member},
        "fusion": {"rule": "mean"},
    }
    return parse_spec(spec).job("m")


@pytest.fixture
def place(tmp_path):
    return Place("r1", "here", "127.0.0.1", tmp_path, ClusterKeys.make())


@pytest.fixture
def replica(place, monkeypatch):
    monkeypatch.setattr(replica_module, "HANDOVER_S", 0.0)
    replica = MemberReplica([(job(shift=1), LogFile("known", "m", "r"))], FACTORIES, place)
    yield replica
    replica.stop()


def connects(path):
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError:
            return False
        return True


def test_members_that_share_a_process_have_their_limits_together_and_one_that_eats_memory_ends_it(place, monkeypatch):
    monkeypatch.setattr(replica_module, "HANDOVER_S", 0.0)
    held = psutil.Process().memory_info().rss
    halves = [limited(held // 2 + (32 << 20)).model_copy(update={"name": name}) for name in "ab"]
    replica = MemberReplica([(one, LogFile("known", one.name, "r")) for one in halves], FACTORIES, place)
    assert replica.address["members"] == ("a", "b")
    assert replica.address["outputs"] == (("FP32", (3,)),) * 2
    replica.check_health()
    kept = np.ones(128 << 20, np.uint8)
    with pytest.raises(RuntimeError, match=r"the process of members 'a', 'b' holds .* over its max_memory_bytes"):
        replica.check_health()
    del kept
    replica.stop()


def test_a_replica_over_its_memory_limit_is_unhealthy(place, monkeypatch):
    monkeypatch.setattr(replica_module, "HANDOVER_S", 0.0)
    held = psutil.Process().memory_info().rss
    replica = MemberReplica([(limited(held + (64 << 20)), LogFile("known", "m", "r"))], FACTORIES, place)
    replica.check_health()
    kept = np.ones(128 << 20, np.uint8)
    with pytest.raises(RuntimeError, match="over its max_memory_bytes"):
        replica.check_health()
    replica.stop()
    assert kept.all()


def test_a_limit_that_the_model_alone_passes_is_refused_in_words(place):
    with pytest.raises(MemberLoadError, match="max_memory_bytes is 1,000,000 but a replica holds"):
        MemberReplica([(limited(1_000_000), LogFile("known", "m", "r"))], FACTORIES, place)


def limited(max_memory_bytes):
    plain = job(shift=1)
    return plain.model_copy(update={"member": plain.member.model_copy(update={"max_memory_bytes": max_memory_bytes})})


def test_it_says_where_it_is_and_what_its_rows_are(replica, place):
    address = replica.address
    assert (address["replica_id"], address["node_id"]) == ("r1", "here")
    assert (address["datatype"], address["dims"]) == ("FP32", (3,))
    assert address["host"] == "127.0.0.1"
    assert address["port"] > 0
    assert address["path"] == str(place.socket_folder / "r1")
    until(lambda: connects(address["path"]))
    said = replica.members[0].describe()
    assert (said["device"], replica.queued_rows, said["last_error"]) == ("cpu", 0, "")
    replica.check_health()


def test_a_replica_that_has_stopped_is_not_healthy_and_takes_no_connection(replica):
    until(lambda: connects(replica.address["path"]))
    replica.stop()
    assert not connects(replica.address["path"])
    with pytest.raises(RuntimeError, match="member 'm' has no inference thread any more"):
        replica.check_health()


def test_a_model_that_does_not_fit_its_spec_never_listens(place):
    with pytest.raises(MemberLoadError):
        MemberReplica([(job(no_such_option=1), LogFile("known", "m", "r"))], FACTORIES, place)
    assert not list(place.socket_folder.iterdir())
