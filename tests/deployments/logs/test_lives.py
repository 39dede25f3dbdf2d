"""What is said of a process that could not say it."""

import subprocess
import sys

import pytest

from quorate.deployments.logs import lives
from quorate.deployments.logs.files import LogFile, read_logs, sign_of
from quorate.deployments.logs.lives import SignOfLife, tell_ended
from quorate.deployments.telemetry.settings import LogSettings

NODE = "10.0.0.1"
_REPLICA = """
import os, sys
from quorate.deployments.logs.files import LogFile
from quorate.deployments.logs.lives import SignOfLife
life = SignOfLife(LogFile("pair", "a", "r1", "10.0.0.1"))
life.renew(3 << 20)
if sys.argv[1] == "well":
    life.end()
os._exit(9)
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("QUORATE_HOME", str(tmp_path))
    counts = tmp_path / "vmstat"
    counts.write_text("pgfault 1\noom_kill 4\n")
    monkeypatch.setattr(lives, "_COUNTS", counts)
    log = LogFile("pair", "a", "r1", NODE)
    log.write("serves")
    return counts


def path_of(replica, node):
    """Of a replica's log."""
    path = LogFile("pair", "a", replica, node).path
    assert path is not None
    return path


def ended(how):
    """A replica's process that has ended; returns what its log says."""
    subprocess.run([sys.executable, "-c", _REPLICA, how], check=False)
    return said()


def said():
    tell_ended("pair", NODE, LogSettings())
    (log,) = read_logs(("pair",))
    return log.text


def test_a_process_that_ended_without_a_word_is_told_of_once(home):
    home.unlink()  # the child counts this machine's own
    found = ended("killed")
    assert "has ended without a word, when it held some 3 MiB: it was killed, or it crashed" in found
    assert said() == found


def test_a_process_that_ended_as_it_should_is_not(home):
    assert "without a word" not in ended("well")


def test_a_process_that_lives_is_not(home):
    log = LogFile("pair", "a", "r1", NODE)
    life = SignOfLife(log)
    assert "without a word" not in said()
    life.end()
    assert not sign_of(path_of("r1", NODE)).exists()


def test_where_the_kernel_has_killed_for_memory_meanwhile_it_is_said(home):
    sign = sign_of(path_of("r1", NODE))
    sign.write_text('{"pid": 7, "kills": 3, "held_bytes": 2097152}   ')
    assert "process 7 has ended without a word, when it held some 2 MiB: the kernel has killed a process" in said()
    assert not sign.exists()


def test_what_another_node_wrote_is_its_own_business(home):
    sign = sign_of(path_of("r2", "10.0.0.2"))
    sign.write_text('{"pid": 7, "kills": 3, "held_bytes": 2097152}')
    said()
    assert sign.exists()


def test_a_sign_that_was_just_made_is_left_alone(home):
    sign = sign_of(path_of("r1", NODE))
    sign.write_text("")
    said()
    assert sign.exists()
