"""Clients that come before the doors are ready, and those that are there when they close."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections import Counter

import grpc
import httpx
import numpy as np
import pytest

from quorate.deployments import Doors as DoorSettings
from quorate.deployments import parse_spec
from quorate.deployments.engine.engine import Engine
from quorate.deployments.security.access import Doorkeeper
from quorate.deployments.server import fusion_server
from quorate.deployments.server.fusion_server import FusionServer, Served, ServerSettings
from quorate.deployments.wire import open_inference_pb2 as pb
from tests.deployments.support.http2_client import INFER, Http2Client
from tests.deployments.support.lines import connect, is_refused
from tests.deployments.support.member_threads import FACTORIES, MemberThreads
from tests.deployments.support.slow_ensemble import Slow, body, head, message, whole_answer
from tests.deployments.support.waiting import until


class EarlyClients:
    """Ask at both doors, again and again, until they are answered.

    Attributes:
        told: how often they were told what: statuses over HTTP and over gRPC, "refused", and "too early" for an answer
            that came before ``may_be_ready`` was set.
        answers: one of each client, in the end.
    """

    def __init__(self, http_port, grpc_port):
        self._http_port, self._grpc = http_port, f"127.0.0.1:{grpc_port}"
        self.told: Counter[object] = Counter()
        self.answers, self.may_be_ready = [], threading.Event()

    async def ask(self, clients):
        await asyncio.gather(*map(self._ask, range(clients)))

    async def _ask(self, number):
        async with grpc.aio.insecure_channel(self._grpc, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            outcome = None
            while outcome != 200:
                outcome = await (self._over_http() if number % 2 else self._over_grpc(channel))
                self.told[outcome] += 1
                if outcome != 200:
                    await asyncio.sleep(0.1)
            self.told["too early"] += not self.may_be_ready.is_set()

    async def _over_http(self):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._http_port)
        except ConnectionRefusedError:
            return "refused"
        with contextlib.closing(writer):
            writer.write(head(len(body()), "Connection: close\r\n") + body())
            status, _, rest = (await reader.read()).partition(b"\r\n\r\n")
        if status.startswith(b"HTTP/1.1 200"):
            self.answers.append(json.loads(rest)["outputs"][0]["data"])
        return int(status.split()[1])

    async def _over_grpc(self, channel):
        try:
            reply = await channel.unary_unary(INFER)(message(), timeout=60)
        except grpc.aio.AioRpcError as error:
            return error.code()
        found = pb.ModelInferResponse.FromString(reply).raw_output_contents[0]
        self.answers.append(np.frombuffer(found, np.float32).tolist())
        return 200


@pytest.mark.long
def test_two_hundred_clients_that_ask_before_it_is_ready_are_told_so_until_it_is(pair_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(fusion_server, "MEMBERS_TIMEOUT_S", 0.2)
    spec = parse_spec({**pair_spec, "name": "slow", "fusion": {**pair_spec["fusion"], "quorum": 2}})
    members, hooks = MemberThreads(spec, tmp_path), {}

    def find(app, on_replicas):
        hooks[app] = on_replicas
        return lambda: None

    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        http_port, grpc_port = one.getsockname()[1], two.getsockname()[1]
    settings = ServerSettings("127.0.0.1", http_port, grpc_port, Doorkeeper(DoorSettings()))
    server = FusionServer(settings, lambda s: Engine(s.spec, s.folder, "here", apps=s.apps), find)

    def ready():
        return httpx.get(f"http://127.0.0.1:{http_port}/v2/health/ready", timeout=60).status_code

    clients = EarlyClients(http_port, grpc_port)
    told = clients.told
    asking = threading.Thread(target=asyncio.run, args=(clients.ask(200),))
    asking.start()
    until(lambda: told["refused"] >= 100)
    server.start(Served(spec, FACTORIES, {name: name for name in spec.members}))
    for app in ("a", None):
        told.clear()
        until(lambda: min(told[503], told[grpc.StatusCode.UNAVAILABLE]) >= 100)
        assert ready() == 503
        if app:  # one of two is no quorum
            members.find(app, hooks[app])
    clients.may_be_ready.set()
    members.find("b", hooks["b"])
    asking.join()
    assert ready() == 200
    assert told.keys() == {503, 200, grpc.StatusCode.UNAVAILABLE, "too early"}
    assert not told["too early"]
    assert len(clients.answers) == 200
    np.testing.assert_allclose(clients.answers, [clients.answers[0]] * 200, atol=1e-6)
    server.stop()
    members.stop()


@pytest.mark.long
def test_doors_that_are_told_to_stop_answer_what_came_in_and_close_what_is_kept_alive(
    open_doors, tmp_path, monkeypatch
):
    monkeypatch.setattr(fusion_server, "GRACE_S", 30)
    slow, submit, came = Slow(open_doors, tmp_path), Engine.submit, []

    def count(engine, *arguments, **options):
        came.append(arguments)
        return submit(engine, *arguments, **options)

    monkeypatch.setattr(Engine, "submit", count)
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(connect(slow.doors.http)) for _ in range(40)]
        calls = [stack.enter_context(Http2Client(slow.doors.grpc)) for _ in range(40)]
        for line in lines:
            line.sendall(head(len(body())) + body())
            assert whole_answer(line)["outputs"] == slow.right["outputs"]
        for client in calls:
            assert client.status(client.call(message()))[0] == 0
        slow.take("hold")
        for line in lines[:20]:
            line.sendall(head(len(body())) + body())
        streams = [client.call(message()) for client in calls[:20]]
        for client in calls[:20]:
            client.flush()
        until(lambda: len(came) == 120)
        stopping = threading.Thread(target=slow.doors.server.stop)
        stopping.start()
        until(lambda: is_refused(slow.doors.http) and is_refused(slow.doors.grpc))
        for line in lines[20:]:
            assert line.recv(1) == b""
        time.sleep(0.5)  # a door without patience would have given them up by now
        slow.take(0)
        for line in lines[:20]:
            assert whole_answer(line)["outputs"] == slow.right["outputs"]
            assert line.recv(1) == b""
        for client, stream in zip(calls, streams, strict=False):
            assert client.status(stream)[0] == 0
        for client in calls[20:]:
            client.read_until(lambda client=client: client.gone is not None)
    stopping.join()
    assert not slow.doors.server._thread.is_alive()
