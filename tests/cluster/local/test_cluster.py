"""The local cluster's start, without Ray: what is tried again, and what is told."""

import os
import subprocess
import sys

import psutil
import pytest
import ray

from quorate.cluster.local import cluster, state


@pytest.fixture
def starts(monkeypatch):
    """What ``ray.init`` does, call by call: an error is raised, anything else returned."""
    outcomes: list[object] = []

    def init(**options):
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(cluster, "logical_gpus", lambda: 0)
    return outcomes


def late():
    return Exception("The current node timed out during startup. This could happen because ...")


def others():
    return set(psutil.Process().children(recursive=True))


def test_a_ray_that_came_up_too_late_is_started_anew(starts, tmp_path):
    starts += [late(), late(), "started"]
    assert cluster._start_ray(tmp_path, others()) == "started"


def test_it_is_not_tried_for_ever_and_another_failure_is_final(starts, tmp_path):
    starts += [late(), late(), late(), "never asked for"]
    with pytest.raises(Exception, match="timed out during startup"):
        cluster._start_ray(tmp_path, others())
    starts[:] = [ValueError("no such folder"), "never asked for"]
    with pytest.raises(ValueError, match="no such folder"):
        cluster._start_ray(tmp_path, others())
    assert starts == ["never asked for"]


def test_a_state_file_of_a_dead_host_is_swept_away(monkeypatch, tmp_path):
    monkeypatch.setenv("QUORATE_HOME", str(tmp_path / "home"))
    left = tmp_path / "left behind"
    left.mkdir()
    state.write_state(state.LocalCluster(2**22 + 1, 0.0, "127.0.0.1:1", str(left)))
    assert state.find() is None
    assert not left.exists()
    assert not (tmp_path / "home" / "local.json").exists()


def test_a_process_with_the_clusters_mark_is_swept_and_a_reader_of_its_log_and_a_driver_are_not(monkeypatch, tmp_path):
    monkeypatch.setenv("QUORATE_HOME", str(tmp_path / "home"))
    folder = tmp_path / "left behind"
    folder.mkdir()
    (folder / "host.log").write_text("one line\n")
    sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
    marked = subprocess.Popen(sleeping, env={**os.environ, "QUORATE_CLUSTER_FOLDER": str(folder)})
    reading = subprocess.Popen(["tail", "-f", str(folder / "host.log")], stdout=subprocess.DEVNULL)
    with (folder / "python-core-driver-0_1.log").open("w") as log:  # as Ray has it open in whoever has connected
        driving = subprocess.Popen(sleeping, stdout=log)
    try:
        state.write_state(state.LocalCluster(2**22 + 1, 0.0, "127.0.0.1:1", str(folder)))
        assert state.find() is None
        marked.wait(20)
        assert (reading.poll(), driving.poll()) == (None, None)
    finally:
        for process in (marked, reading, driving):
            process.kill()
            process.wait()
