"""The thread that runs the engine and both doors, with members on threads and no Ray."""

import json
import logging
import socket
import threading

import httpx
import numpy as np
import pytest

from quorate.deployments import Client, parse_spec
from quorate.deployments import Doors as OpenDoors
from quorate.deployments.engine.engine import Engine
from quorate.deployments.errors import RequestError, SpecError
from quorate.deployments.security.access import Doorkeeper
from quorate.deployments.security.doors import bind
from quorate.deployments.server.fusion_server import FusionServer, Served, ServerSettings
from quorate.deployments.server.service import DoorAddresses
from tests.deployments.support.member_threads import FACTORIES, MemberThreads

X = np.array([[0.5, -1.0]], np.float32)


def make_engine(served):
    return Engine(served.spec, served.folder, "here", apps=served.apps)


def served(spec):
    return Served(spec, FACTORIES, {name: name for name in spec.members})


@pytest.fixture
def spec(pair_spec):
    return parse_spec({**pair_spec, "name": "served"})


@pytest.fixture
def members(spec, tmp_path):
    members = MemberThreads(spec, tmp_path)
    yield members
    members.stop()


@pytest.fixture
def published():
    """The specs that the server handed on."""
    return []


@pytest.fixture
def server(spec, members, published):
    async def publish(revise):
        published.append(revise(spec))

    server = FusionServer(
        ServerSettings("127.0.0.1", 0, 0, Doorkeeper(OpenDoors())), make_engine, members.find, publish
    )
    server.start(served(spec))
    yield server
    server.stop()


def reweighted(spec, weight):
    fusion = spec.fusion.model_copy(update={"weights": {"a": weight, "b": 1 - weight}})
    return spec.model_copy(update={"fusion": fusion})


def revision_that_answers(server):
    with Client(f"http://127.0.0.1:{server.http_port}", model="served") as client:
        return client.infer(x=X).parameters["revision"]


class Handler(logging.NullHandler):
    closed = False

    def close(self):
        self.closed = True
        super().close()


def test_it_leaves_the_log_handlers_of_the_process_open(spec, members):
    handler = Handler()
    server = FusionServer(ServerSettings("127.0.0.1", 0, 0, Doorkeeper(OpenDoors())), make_engine, members.find)
    server.start(served(spec))
    server.stop()
    assert not handler.closed


def test_it_answers_from_the_moment_that_it_is_started(server, spec):
    assert revision_that_answers(server) == spec.revision
    assert server.stalled_s() < 5
    assert 0 <= server.busy_share() <= 1


def test_clients_are_told_of_its_own_doors_until_it_is_told_of_all(server):
    def told():
        return httpx.get(f"http://127.0.0.1:{server.http_port}/v2", timeout=30).json()["doors"]

    assert told() == {"http": [f"127.0.0.1:{server.http_port}"], "grpc": [f"127.0.0.1:{server.grpc_port}"]}
    server.doors = DoorAddresses(("10.0.0.1:80", "10.0.0.2:80"), ("10.0.0.1:81",))
    assert told() == {"http": ["10.0.0.1:80", "10.0.0.2:80"], "grpc": ["10.0.0.1:81"]}


def test_doors_on_all_addresses_of_a_machine_name_none_by_themselves(spec, members):
    doors = OpenDoors("0.0.0.0", insecure=True)
    server = FusionServer(ServerSettings("0.0.0.0", 0, 0, Doorkeeper(doors)), make_engine, members.find)
    server.start(served(spec))
    server.stop()
    assert server.doors == DoorAddresses()


def test_a_prepared_revision_answers_only_who_asks_for_it_until_it_is_committed(server, spec):
    new = reweighted(spec, 0.9)
    assert server.prepare(served(new)) == new.revision
    assert revision_that_answers(server) == spec.revision
    (probed,) = server.probe(new.revision, {"x": X}).values()
    np.testing.assert_allclose(probed.sum(axis=1), 1.0, atol=1e-6)
    server.with_revisions(lambda revisions: revisions.commit(new.revision))
    assert revision_that_answers(server) == new.revision


def test_a_revision_that_cannot_be_built_changes_nothing(server, spec):
    fusion = spec.fusion.model_copy(update={"rule": "no_such_rule"})
    with pytest.raises((SpecError, RequestError, KeyError)):
        server.prepare(served(spec.model_copy(update={"fusion": fusion})))
    assert revision_that_answers(server) == spec.revision


def test_a_revision_that_arrives_at_a_door_is_handed_on(server, published):
    with Client(f"http://127.0.0.1:{server.http_port}", model="served") as client:
        client.publish({"weights": {"a": 0.5, "b": 0.5}})
    assert [found.fusion.weights for found in published] == [{"a": 0.5, "b": 0.5}]


def test_a_port_that_another_program_holds_is_said_by_whoever_started_it(spec, members):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = ServerSettings("127.0.0.1", taken.getsockname()[1], 0, Doorkeeper(OpenDoors()))
        server = FusionServer(settings, make_engine, members.find)
        with pytest.raises(OSError, match="in use"):
            server.start(served(spec))


def test_doors_let_nobody_in_before_they_are_opened(spec, members):
    settings = ServerSettings("127.0.0.1", 0, 0, Doorkeeper(OpenDoors()))
    server = FusionServer(settings, make_engine, members.find)
    server.start(served(spec), opening=False)
    for port in (server.http_port, server.grpc_port):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    server.open_doors()
    server.open_doors()
    assert revision_that_answers(server) == spec.revision
    server.stop()


def test_a_server_that_never_opened_stops_too(spec, members):
    settings = ServerSettings("127.0.0.1", 0, 0, Doorkeeper(OpenDoors()))
    server = FusionServer(settings, make_engine, members.find)
    server.start(served(spec), opening=False)
    server.stop()
    with bind("127.0.0.1", server.http_port):
        assert server.stalled_s() >= 0


def test_a_server_that_is_stopped_takes_no_more_connections(server):
    server.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{server.http_port}/v2")


@pytest.mark.long
def test_members_that_no_revision_asks_any_more_are_looked_for_no_more(spec, members):
    spec = spec.model_copy(update={"fusion": spec.fusion.model_copy(update={"deadline_s": 0.5})})
    found, gone = [], threading.Event()

    def find(app, on_replicas):
        found.append(app)
        members.find(app.partition(".")[0], on_replicas)
        return gone.set if app == "b" else pytest.fail

    server = FusionServer(ServerSettings("127.0.0.1", 0, 0, Doorkeeper(OpenDoors())), make_engine, find)
    server.start(served(spec))
    new = reweighted(spec, 0.9)
    server.prepare(Served(new, FACTORIES, {"a": "a", "b": "b.new"}))
    server.with_revisions(lambda revisions: revisions.commit(new.revision))
    assert gone.wait(30)
    assert found == ["a", "b", "a", "b.new"]
    assert revision_that_answers(server) == new.revision
    server.stop()


@pytest.mark.parametrize("depth", [101, 1025, 250_000])
def test_deeply_nested_bodies_of_management_are_refused(server, published, depth):
    lists, objects = "[" * depth + "]" * depth, '{"weights": ' * depth + "1" + "}" * depth
    load = "repository/models/served/load"
    bodies = {("repository/index", f'{{"ready": {nested}}}') for nested in (lists, objects)}
    bodies |= {(path, nested) for path in ("repository/index", load) for nested in (lists,)}
    bodies |= {(load, f'{{"parameters": {nested}}}') for nested in (lists, objects)}
    bodies |= {(load, f'{{"parameters": {{"config": {nested}}}}}') for nested in (lists, objects)}
    bodies |= {(load, json.dumps({"parameters": {"config": nested}})) for nested in (lists, objects)}
    with httpx.Client(base_url=f"http://127.0.0.1:{server.http_port}/v2", timeout=30) as client:
        for path, body in bodies:
            reply = client.post(path, content=body)
            assert reply.status_code == 400, (path, body[:40], reply.text[:300])
            assert len(reply.json()["error"]) < 5000
        assert client.post("repository/index").json()[0]["name"] == "served"
    assert not published
