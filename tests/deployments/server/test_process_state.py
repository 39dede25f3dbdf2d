"""A server leaves the process that it runs in as it was: Serve's controller has to find its replica there again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

SCRIPT = """
import json, locale, logging, os, signal, sys, tempfile, threading, warnings

import torch

from quorate.deployments import Client, Doors, parse_spec
from quorate.deployments.engine.engine import Engine
from quorate.deployments.security.access import Doorkeeper
from quorate.deployments.server.fusion_server import FusionServer, Served, ServerSettings
from tests.deployments.support.member_threads import FACTORIES, MemberThreads


class Handler(logging.StreamHandler):
    closed = False

    def close(self):
        self.closed = True
        super().close()


def state():
    loggers = [logging.getLogger(name) for name in ("", "ray", "ray.serve", "uvicorn", "asyncio")]
    return {
        "handlers": [str(handler) for logger in loggers for handler in logger.handlers],
        "levels": [logger.level for logger in loggers],
        "closed": [handler.closed for handler in HANDLERS],
        "disabled": logging.root.manager.disable,
        "signals": {str(number): str(signal.getsignal(number)) for number in signal.valid_signals()},
        "wakeup": signal.set_wakeup_fd(-1),
        "locale": locale.setlocale(locale.LC_ALL),
        "environment": dict(os.environ),
        "umask": umask(),
        "folder": os.getcwd(),
        "path": sys.path,
        "filters": [str(found) for found in warnings.filters],
        "excepthooks": [str(sys.excepthook), str(threading.excepthook), str(sys.unraisablehook)],
        "torch_threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "switch_interval": sys.getswitchinterval(),
        "recursion": sys.getrecursionlimit(),
    }


def umask():
    found = os.umask(0)
    os.umask(found)
    return found


HANDLERS = [Handler(), Handler()]
logging.getLogger().addHandler(HANDLERS[0])
logging.getLogger("ray.serve").addHandler(HANDLERS[1])
spec = parse_spec(json.loads(sys.argv[1]))
members = MemberThreads(spec, tempfile.mkdtemp(prefix="q"))
torch.set_num_threads(2)
before = state()
server = FusionServer(
    ServerSettings("127.0.0.1", 0, 0, Doorkeeper(Doors())),
    lambda served: Engine(served.spec, served.folder, "here", apps=served.apps),
    members.find,
)
server.start(Served(spec, FACTORIES, {name: name for name in spec.members}))
with Client(f"http://127.0.0.1:{server.http_port}", model=spec.name) as client:
    client.infer(x=[[0.5, -1.0]])
running = state()
server.stop()
stopped = state()
members.stop()
print(json.dumps([before, running, stopped]))
"""


def test_a_server_that_runs_and_one_that_has_stopped_have_changed_nothing_around_them(pair_spec):
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(pair_spec)], cwd=root, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    before, running, stopped = json.loads(done.stdout.splitlines()[-1])
    assert running == before
    assert stopped == before
