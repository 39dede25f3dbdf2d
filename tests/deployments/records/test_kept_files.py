"""Copies of what a publication names: what restarts or rolls back finds what was published."""

import pytest

from quorate.deployments import parse_spec
from quorate.deployments.errors import DeployError
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
    assert [path.name for path in second.parent.iterdir()] == [second.name]
    assert {path.read_bytes() for path in (root / "kept" / "content").iterdir()} == {
        b"trained again", (folder / "kept_factory.py").read_bytes(),
    }  # fmt: skip
    drop_all_but("kept", set(), root)
    assert not (root / "kept").exists()


def test_ensembles_do_not_delete_each_others_copies(folder, tmp_path):
    kept = keep_files(spec(folder), folder, tmp_path / "root")
    drop_all_but("another", set(), tmp_path / "root")
    assert (kept / "kept_factory.py").is_file()
    assert len(list((tmp_path / "root" / "kept" / "content").iterdir())) == 2


def test_a_file_that_changes_while_it_is_deployed_is_refused(folder, tmp_path):
    found = spec(folder)
    (folder / "artifacts" / "a.safetensors").write_bytes(b"trained again")
    with pytest.raises(DeployError, match=r"a\.safetensors was changed while it was deployed; deploy again"):
        keep_files(found, folder, tmp_path / "root")
    assert not list((tmp_path / "root" / "kept" / "content").iterdir())


def test_what_a_factory_reads_beside_itself_is_there_too(folder, tmp_path):
    (folder / "words.txt").write_text("a b")
    (folder / "artifacts" / "notes.txt").write_text("c")
    for _ in range(2):
        kept = keep_files(spec(folder), folder, tmp_path / "root")
    assert [(kept / name).read_text() for name in ("words.txt", "artifacts/notes.txt")] == ["a b", "c"]
    assert not (kept / "kept_factory.py").is_symlink()
    drop_all_but("kept", set(), tmp_path / "root")
    assert (folder / "words.txt").is_file()


def test_a_spec_with_a_path_that_leads_out_of_its_folder_is_served_from_there(folder, tmp_path):
    members = {"a": {"model": "kept_factory:make", "weights": "../outside.safetensors", "inputs": ["x"]}}
    inputs = {"x": {"datatype": "FP32", "shape": [2]}}
    leading_out = parse_spec(
        {"name": "kept", "inputs": inputs, "classes": ["0", "1"], "members": members, "fusion": {"rule": "mean"}}
    )
    assert keep_files(pin(leading_out, folder), folder, tmp_path / "root") == folder
