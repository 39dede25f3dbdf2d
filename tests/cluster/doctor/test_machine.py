"""What is said of a machine."""

import resource
import tempfile

import pytest

from quorate.cluster.doctor import machine
from quorate.cluster.doctor.machine import check_machine

MIB = 1 << 20


def found(check, shared_memory_bytes=MIB):
    return next(finding for finding in check_machine(shared_memory_bytes) if finding.check == check)


def test_a_machine_that_runs_these_tests_fails_in_nothing():
    assert "failed" not in {finding.state for finding in check_machine(MIB)}


@pytest.mark.parametrize(
    ("soft", "hard", "state", "fix"),
    [
        (512, 4096, "failed", "ulimit -n 4096"),
        (4096, resource.RLIM_INFINITY, "warning", "ulimit -n 65536"),
        (4096, 4096, "warning", "raise the hard limit"),
        (65_536, 65_536, "ok", ""),
    ],
)
def test_too_few_open_files_are_said_with_how_to_have_more(monkeypatch, soft, hard, state, fix):
    monkeypatch.setattr(resource, "getrlimit", lambda what: (soft, hard))
    finding = found("open files")
    assert finding.state == state
    assert fix in finding.fix


def test_shared_memory_below_what_a_cluster_takes_is_said():
    assert "--shm-size" in found("shared memory", shared_memory_bytes=1 << 60).fix


def test_a_temporary_folder_whose_path_is_too_long_for_sockets_fails(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    finding = found("temporary folder")
    assert finding.state == "failed"
    assert "TMPDIR" in finding.fix


def test_no_port_at_all_fails(monkeypatch):
    def taken(*_):
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(machine, "bind", taken)
    assert found("ports").state == "failed"


def test_a_driver_that_torch_cannot_use_is_said(monkeypatch, tmp_path):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for there, state in ((tmp_path, "warning"), (tmp_path / "none", "ok")):
        monkeypatch.setattr(machine, "_NVIDIA", there)
        assert found("GPU").state == state
