"""Logs of members: files that are bounded, and go a day after the last line."""

import os
import time

import pytest

from quorate.deployments.logs import files
from quorate.deployments.logs.files import KEPT_S, LogFile, forget_old, kept_members, read_logs


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("QUORATE_HOME", str(tmp_path))
    return tmp_path


def test_what_replicas_write_is_read_by_ensemble_and_member():
    for member, replica in (("a", "r1"), ("a", "r2"), ("b", "r3")):
        LogFile("digits", member, replica, "10.0.0.1").write(f"hello from {replica}")
    LogFile("other", "a", "r4").write("hello")
    assert kept_members() == [("digits", "a"), ("digits", "b"), ("other", "a")]
    assert {log.replica for log in read_logs(("digits",))} == {"r1", "r2", "r3"}
    assert [log.replica for log in read_logs(("digits",), "b")] == ["r3"]
    assert read_logs(("digits",), "b")[0].text.endswith(" hello from r3\n")
    assert {log.node for log in read_logs(("digits",))} == {"10.0.0.1"}


def test_a_log_holds_the_last_lines_and_no_more_than_twice_its_limit(monkeypatch, home):
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    log = LogFile("e", "m", "r")
    for number in range(200):
        log.write(f"line {number}")
    text = read_logs(("e",))[0].text
    assert text.endswith("line 199\n")
    assert 1000 < len(text) <= 2000
    assert sum(path.stat().st_size for path in home.rglob("*.log*")) <= 2000


def test_nobody_else_can_read_them(home):
    LogFile("e", "m", "r").write("secret")
    (path,) = home.rglob("*.log")
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_they_are_forgotten_a_day_after_the_last_line_and_their_folders_with_them(home):
    for replica, age_s in (("old", KEPT_S + 60), ("new", KEPT_S - 60)):
        LogFile("e", replica, replica).write("hello")
        then = time.time() - age_s
        os.utime(home / "logs" / "e" / replica / f"{replica}@.log", (then, then))
    forget_old()
    assert kept_members() == [("e", "new")]
    assert not (home / "logs" / "e" / "old").exists()


def test_where_nothing_can_be_written_lines_are_lost_and_nothing_else(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("QUORATE_HOME", str(tmp_path / "file"))
    LogFile("e", "m", "r").write("hello")
    assert read_logs(("e",)) == []
