"""Ensembles behind both doors without Ray: members on threads, real sockets, an event loop on a thread of its own."""

import asyncio
import contextlib
import socket
import threading

import pytest
import uvicorn

from quorate.deployments import Doors as DoorSettings
from quorate.deployments import parse_spec
from quorate.deployments.security.access import Doorkeeper
from quorate.deployments.security.certificates import Certificates
from quorate.deployments.server.grpc.server import grpc_server
from quorate.deployments.server.http.app import HttpDoor
from quorate.deployments.server.http.protocol import JoinedHttpProtocol
from quorate.deployments.server.service import Service
from tests.deployments.support.member_threads import MemberThreads


class Doors:
    """A running ensemble.

    Attributes:
        http: URL of its HTTP door.
        http_door: what answers there.
        grpc: address of its gRPC door.
        engine: what answers; look, don't touch: it lives on another thread.
        keeper: who may come in.
        certificates: what they show, with TLS.
    """

    def __init__(self, spec, folder, settings=None):
        settings = settings or DoorSettings()
        self.keeper = Doorkeeper(settings)
        self.certificates = settings.tls and Certificates(settings.tls)
        self._members = MemberThreads(parse_spec(spec), folder)
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._started.wait(20), "the doors did not open"

    def close(self):
        self._loop.call_soon_threadsafe(setattr, self._http, "should_exit", True)
        self._thread.join(20)
        self._members.stop()

    def stop_members(self):
        """Let every member finish and leave."""
        self._members.stop()

    async def _serve(self):
        self._loop = asyncio.get_running_loop()
        self.engine = engine = await self._members.engine()
        service = Service(engine)
        grpc_door, grpc_port = grpc_server(service, "127.0.0.1", 0, self.keeper, self.certificates)
        await grpc_door.start()
        listener = socket.create_server(("127.0.0.1", 0))
        self.http_door = HttpDoor(service, self.keeper)
        config = uvicorn.Config(
            self.http_door, interface="asgi3", lifespan="off", log_level="error",
            http=JoinedHttpProtocol, timeout_graceful_shutdown=3,
        )  # fmt: skip
        config.load()
        config.ssl = self.certificates and self.certificates.context
        self._http = uvicorn.Server(config)
        self.http = f"{'https' if config.ssl else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
        self.grpc = f"127.0.0.1:{grpc_port}"
        self._started.set()
        await self._http.serve(sockets=[listener])
        await grpc_door.stop(1)
        engine.close()


@pytest.fixture(scope="session")
def open_doors(tmp_path_factory):
    """Give it a spec as a dict, and how its doors are guarded; what it opens stays open until the session ends."""
    with contextlib.ExitStack() as stack:

        def run(spec, settings=None):
            doors = Doors(spec, tmp_path_factory.mktemp(spec["name"]), settings)
            stack.callback(doors.close)
            return doors

        yield run


DATATYPES = (
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64",
    "BYTES",
)  # fmt: skip


def _member(factory, inputs, **config):
    return {"model": factory, "config": config, "inputs": inputs, "output": "values"}


@pytest.fixture(scope="session")
def every(open_doors):
    """Reads three elements a row of every datatype and gives one number for each of them."""
    members = {"sums": _member("every:sums", list(DATATYPES))}
    inputs = {datatype: {"datatype": datatype, "shape": [3]} for datatype in DATATYPES}
    return open_doors({"name": "every", "inputs": inputs, "members": members, "fusion": {"rule": "mean"}})


@pytest.fixture(scope="session")
def pair_spec():
    """Two members of known answers, fused 1 to 3."""
    members = {"a": _member("known:known", ["x"], shift=1), "b": _member("known:known", ["x"], shift=-2)}
    return {
        "name": "pair",
        "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
        "classes": ["red", "green", "blue"],
        "members": {name: {**member, "output": "probabilities"} for name, member in members.items()},
        "fusion": {"rule": "weighted_mean", "weights": {"a": 0.25, "b": 0.75}, "deadline_s": 5.0},
    }


@pytest.fixture(scope="session")
def pair(open_doors, pair_spec):
    return open_doors(pair_spec)
