"""Ensembles behind both doors without Ray: members on threads, real sockets, an event loop on a thread of its own."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from quorate.deployments import Doors as DoorSettings
from quorate.deployments import parse_spec
from quorate.deployments.engine.engine import Engine
from quorate.deployments.security.access import Doorkeeper
from quorate.deployments.security.certificates import Certificates
from quorate.deployments.server import fusion_server
from quorate.deployments.server.fusion_server import FusionServer, Served, ServerSettings
from tests.deployments.support.member_threads import FACTORIES, MemberThreads


class Doors:
    """A running ensemble.

    Attributes:
        http: URL of its HTTP door.
        grpc: address of its gRPC door.
        server: what runs it.
        keeper: who may come in.
        certificates: what they show, with TLS.
    """

    def __init__(self, spec, sockets, settings=None, folder=FACTORIES):
        settings = settings or DoorSettings()
        self.keeper = Doorkeeper(settings)
        self.certificates = settings.tls and Certificates(settings.tls)
        spec = parse_spec(spec)
        self._members, self._spec, self._folder = MemberThreads(spec, sockets, folder), spec, folder
        self._start(0, 0)
        self.http = f"{'https' if self.certificates else 'http'}://127.0.0.1:{self.server.http_port}"
        self.grpc = f"127.0.0.1:{self.server.grpc_port}"

    @property
    def engine(self):
        """What answers; look, don't touch: it lives on another thread."""
        return self.server.engine

    @property
    def service(self):
        """What both doors ask."""
        return self.server.service

    @property
    def http_door(self):
        """What answers HTTP."""
        return self.server.http_door

    def restart(self):
        """Open them again, where they stood, after ``server.stop``."""
        self._start(self.server.http_port, self.server.grpc_port)

    def _start(self, http_port, grpc_port):
        settings = ServerSettings("127.0.0.1", http_port, grpc_port, self.keeper, self.certificates)
        self.server = FusionServer(settings, _make_engine, self._members.find)
        self.server.start(Served(self._spec, self._folder, {name: name for name in self._spec.members}))

    def close(self):
        self.server.stop()
        self._members.stop()

    def stop_members(self, *names):
        """Let these members, or all, finish and leave."""
        self._members.stop(*names)


def _make_engine(served):
    return Engine(served.spec, served.folder, "here", apps=served.apps)


@pytest.fixture(autouse=True)
def _nothing_is_held_for_ever(request):
    """What a request held of the memory budget is free once it is over, however it ended."""
    yield
    pair = request.node.funcargs.get("pair")
    until = time.monotonic() + 60
    while pair is not None and pair.server.service.budget.held_bytes:
        assert time.monotonic() < until, f"{pair.server.service.budget.held_bytes} bytes are still held"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def open_doors(tmp_path_factory):
    """Give it a spec as a dict, how its doors are guarded, and where its files are; what it opens stays open until the
    session ends.
    """
    opened = []

    def run(spec, settings=None, folder=FACTORIES):
        doors = Doors(spec, tmp_path_factory.mktemp(spec["name"]), settings, folder)
        opened.append(doors)
        return doors

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fusion_server, "GRACE_S", 1)  # tests that are over have clients that never hang up
        yield run
    with ThreadPoolExecutor(max(len(opened), 1)) as pool:  # each waits for its members to finish
        list(pool.map(Doors.close, opened))


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
