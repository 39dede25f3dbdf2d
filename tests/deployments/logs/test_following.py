"""What replicas have written since one last looked: each line once, whatever is put aside in between."""

import pytest

from quorate.deployments.logs import files
from quorate.deployments.logs.files import LogFile
from quorate.deployments.logs.following import read_new


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("QUORATE_HOME", str(tmp_path))
    return tmp_path


class Reader:
    def __init__(self, member=None):
        self._member, self._cursors = member, {}

    def new(self):
        found = read_new(("e",), self._member, self._cursors)
        self._cursors |= {(log.ensemble, log.member, log.replica): cursor for log, cursor in found}
        return {log.replica: [line.split(" ", 2)[2] for line in log.text.splitlines()] for log, _ in found}


def test_each_line_of_each_replica_comes_once():
    first, reader = LogFile("e", "m", "r1"), Reader()
    first.write("one")
    assert reader.new() == {"r1": ["one"]}
    assert reader.new() == {}
    first.write("two")
    LogFile("e", "m", "r2").write("hello")
    LogFile("other", "m", "r3").write("hello")
    assert reader.new() == {"r1": ["two"], "r2": ["hello"]}


def test_lines_that_were_put_aside_before_anybody_looked_are_not_lost(monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    log, reader, seen = LogFile("e", "m", "r"), Reader(), []
    for number in range(90):
        log.write(f"line {number}")
        if number % 20 == 3:
            seen += reader.new()["r"]
    seen += reader.new()["r"]
    assert seen == [f"line {number}" for number in range(90)]


def test_a_line_that_is_being_written_waits_for_its_end(home):
    log, reader = LogFile("e", "m", "r"), Reader("m")
    log.write("one")
    (path,) = home.rglob("*.log")
    with path.open("a") as file:
        file.write("2025-01-01 00:00:00 ha")
        file.flush()
        assert reader.new() == {"r": ["one"]}
        file.write("lf\n")
        file.flush()
        assert reader.new() == {"r": ["half"]}
