"""Copies of what a publication names: what restarts or rolls back finds what was published."""

import pytest

from quorate.deployments import parse_spec
from quorate.deployments.records.kept_files import drop_all_but, keep_files
from quorate.deployments.spec.digests import check_member, pin


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "spec" / "artifacts").mkdir(parents=True)
    (tmp_path / "spec" / "artifacts" / "a.safetensors").write_bytes(b"weights")
    (tmp_path / "spec" / "kept_factory.py").write_text("def make():\n    return None\n")
    (tmp_path / "outside.safetensors").write_bytes(b"elsewhere")
    return tmp_path / "spec"


def spec(folder):
    outside = str(folder.parent / "outside.safetensors")
    members = {
        "a": {"model": "kept_factory:make", "weights": "artifacts/a.safetensors", "inputs": ["x"]},
        "b": {"model": "torch.nn:Linear", "weights": outside, "inputs": ["x"]},
    }
    inputs = {"x": {"datatype": "FP32", "shape": [2]}}
    data = {"name": "kept", "inputs": inputs, "classes": ["0", "1"], "members": members, "fusion": {"rule": "mean"}}
    return pin(parse_spec(data), folder)


def test_copies_outlast_a_change_of_what_they_are_of(folder, tmp_path):
    found = spec(folder)
    kept = keep_files(found, folder, tmp_path / "root")
    (folder / "artifacts" / "a.safetensors").write_bytes(b"trained again")
    (folder / "kept_factory.py").unlink()
    assert (kept / "artifacts" / "a.safetensors").read_bytes() == b"weights"
    for name in found.members:
        check_member(found.job(name), kept)
    assert not list(kept.rglob("outside*"))


def test_the_same_content_is_kept_once(folder, tmp_path):
    first = spec(folder)
    (folder / "kept_factory.py").write_text("def make():\n    return 1\n")
    second = spec(folder)
    assert first.revision != second.revision
    kept = [
        keep_files(found, folder, tmp_path / "root") / "artifacts/a.safetensors" for found in (first, second, second)
    ]
    assert len({path.stat().st_ino for path in kept}) == 1


def test_what_no_revision_needs_any_more_is_deleted(folder, tmp_path):
    root, first = tmp_path / "root", spec(folder)
    keep_files(first, folder, root)
    (folder / "artifacts" / "a.safetensors").write_bytes(b"trained again")
    second = keep_files(spec(folder), folder, root)
    drop_all_but("kept", {second.name}, root)
    assert [path.name for path in (root / "kept").iterdir()] == [second.name]
    assert {path.read_bytes() for path in (root / ".content").iterdir()} == {
        b"trained again", (folder / "kept_factory.py").read_bytes(),
    }  # fmt: skip
    drop_all_but("kept", set(), root)
    assert not list((root / ".content").iterdir())
