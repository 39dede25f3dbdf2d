"""What is said of the state folder, the local cluster and what dead ones left."""

import json
import os
import tempfile

import psutil
import pytest

from quorate.cluster.doctor.leftovers import check_leftovers
from quorate.cluster.operations.doctor import Diagnosis


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("QUORATE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / "home"


def found():
    return {finding.check: finding for finding in check_leftovers()}


def write_state(home, pid, created):
    home.mkdir()
    state = {"pid": pid, "created": created, "address": "127.0.0.1:1", "folder": "/tmp/quorate-x"}
    (home / "local.json").write_text(json.dumps(state))


def test_where_nothing_runs_and_nothing_is_left_all_is_well(home):
    assert {name: finding.state for name, finding in found().items()} == {"state folder": "ok", "local cluster": "ok"}


def test_a_local_cluster_that_runs_is_told_and_a_dead_one_with_what_removes_it(home):
    write_state(home, os.getpid(), psutil.Process().create_time())
    assert found()["local cluster"].found.startswith(f"runs as process {os.getpid()}")
    (home / "local.json").unlink()
    home.rmdir()
    write_state(home, 2**22 + 1, 0.0)
    assert found()["local cluster"].fix == "quorate down removes it"
    (home / "local.json").write_text("{")
    assert found()["local cluster"].state == "warning"


def test_folders_that_no_process_owns_any_more_are_listed(tmp_path):
    (tmp_path / "quorate-dead" / "ray").mkdir(parents=True)
    assert found()["leftovers"].fix == f"rm -r {tmp_path / 'quorate-dead'}"


def test_a_state_folder_that_cannot_be_written_fails_and_so_does_the_whole(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("QUORATE_HOME", str(tmp_path / "file"))
    findings = tuple(check_leftovers())
    assert [finding.state for finding in findings] == ["failed"]
    diagnosis = Diagnosis(findings)
    assert not diagnosis.healthy
    assert repr(diagnosis).startswith("FAIL  state folder: ")
