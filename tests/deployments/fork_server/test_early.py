"""A fork server that begins before its node: what it forks, and for whom."""

import contextlib
import os
import socket
import sys
from pathlib import Path

import pytest

from quorate.deployments.fork_server import early, start_worker

SCRIPT = "import os, sys; print(os.getppid(), os.environ['WORKER'], sys.argv[1], 'sqlite3' in sys.modules)"


pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere nothing is forked")


@pytest.fixture(autouse=True)
def _node(monkeypatch):
    """This process is the node's."""
    monkeypatch.setenv("RAY_RAYLET_PID", str(os.getpid()))


@pytest.fixture
def listener(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "server"))
        listener.listen(8)
        yield listener


def test_what_it_imported_is_there_in_the_workers_that_it_forks(listener, tmp_path):
    with early.begun(tmp_path, ["sqlite3", "quorate.not_there"]):
        assert start_worker._begun_early(listener)
        parent, *said = worker_says(tmp_path)
        command = Path(f"/proc/{parent}/cmdline").read_text().split("\0")
    assert said == ["one", "argument", "True"]
    assert command[:2] == [sys.executable, early.__file__]


def worker_says(tmp_path):
    """What a worker that is forked writes."""
    (tmp_path / "worker.py").write_text(SCRIPT)
    request: dict[str, object] = {
        "modules": [], "arguments": [str(tmp_path / "worker.py"), "argument"], "folder": str(tmp_path),
        "environment": {**os.environ, "WORKER": "one"},
    }  # fmt: skip
    readable, writable = os.pipe()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(tmp_path / "server"))
        assert start_worker._taken(connection, request, [0, writable, 2])
    os.close(writable)
    with open(readable) as pipe:
        return pipe.read().split()


def test_it_begins_though_whoever_starts_it_has_a_thousand_files_open(listener, tmp_path):
    with contextlib.ExitStack() as stack:
        for _ in range(1100):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        with early.begun(tmp_path, []):
            assert start_worker._begun_early(listener)


def test_it_is_no_server_for_workers_of_another_environment(listener, tmp_path, monkeypatch):
    with early.begun(tmp_path, []):
        monkeypatch.setenv("OMP_NUM_THREADS", "7")
        assert not start_worker._begun_early(listener)
        monkeypatch.delenv("OMP_NUM_THREADS")


def test_where_none_has_begun_a_worker_starts_its_own(listener):
    assert not start_worker._begun_early(listener)
