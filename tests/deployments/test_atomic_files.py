"""Killed at every write and rename: what is read afterwards is the old or the new, never a mixture."""

import os

import pytest

from quorate.deployments import load_spec, parse_spec
from quorate.deployments.atomic_files import copy_whole, write_whole, writing_whole
from quorate.deployments.records.kept_files import drop_all_but, keep_files
from quorate.deployments.spec.digests import check_member, pin
from quorate.deployments.spec.files import save_spec
from tests.deployments.support.killed_saves import read_after_each_kill

OLD, NEW = b"old " * 5_000, b"new, and longer " * 5_000


def spec(rule="mean"):
    return parse_spec(
        {
            "name": "kept", "inputs": {"x": {"datatype": "FP32", "shape": [2]}}, "classes": ["0", "1"],
            "members": {"a": {"model": "kept_factory:make", "weights": "artifacts/a.safetensors", "inputs": ["x"]}},
            "fusion": {"rule": rule},
        }
    )  # fmt: skip


def _in_place(path):
    path.write_bytes(NEW)


def _piecewise(path):
    with writing_whole(path) as fresh, fresh.open("wb") as file:
        for at in range(0, len(NEW), 7_000):
            file.write(NEW[at : at + 7_000])


def _copied(path):
    source = path.with_name("source")
    source.write_bytes(NEW)
    copy_whole(source, path)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "spec" / "artifacts").mkdir(parents=True)
    (tmp_path / "spec" / "artifacts" / "a.safetensors").write_bytes(OLD)
    (tmp_path / "spec" / "kept_factory.py").write_text("def make():\n    return None\n")
    (tmp_path / "root").mkdir()
    return tmp_path / "spec"


@pytest.mark.long
@pytest.mark.parametrize("write", [lambda path: write_whole(path, NEW), _piecewise, _copied])
def test_a_file_is_the_old_or_the_new(tmp_path, write):
    folder = tmp_path / "place"
    folder.mkdir()
    write_whole(folder / "file", OLD)
    seen = read_after_each_kill(folder, lambda: write(folder / "file"), (folder / "file").read_bytes)
    assert seen[0] == OLD
    assert seen[-1] == NEW
    assert set(seen) == {OLD, NEW}


def test_a_file_that_is_written_in_place_is_seen_torn(tmp_path):
    folder = tmp_path / "place"
    folder.mkdir()
    write_whole(folder / "file", OLD)
    seen = read_after_each_kill(folder, lambda: _in_place(folder / "file"), (folder / "file").read_bytes)
    assert seen[-1] == NEW
    assert not {OLD, NEW} >= set(seen)


def test_a_write_that_fails_leaves_nothing_beside_the_file(tmp_path):
    write_whole(tmp_path / "file", OLD)
    with pytest.raises(ZeroDivisionError), writing_whole(tmp_path / "file") as fresh:
        fresh.write_bytes(NEW) / 0
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [OLD]


@pytest.mark.long
def test_a_spec_is_the_old_or_the_new(folder):
    save_spec(spec(), folder / "spec.yaml")
    seen = read_after_each_kill(
        folder, lambda: save_spec(spec("median"), folder / "spec.yaml"),
        lambda: load_spec(folder / "spec.yaml").output_fusion.rule,
    )  # fmt: skip
    assert seen[0] == "mean"
    assert seen[-1] == "median"
    assert set(seen) == {"mean", "median"}


@pytest.mark.long
def test_copies_of_a_publication_are_whole_or_not_there_and_a_second_try_completes_them(folder, tmp_path):
    found, root = pin(spec(), folder), tmp_path / "root"

    def read():
        whole = {OLD, (folder / "kept_factory.py").read_bytes()}
        kept = root / "kept" / "revisions"
        assert {path.read_bytes() for path in kept.rglob("*") if path.is_file()} <= whole
        again = root / keep_files(found, folder, root).name
        check_member(found.job("a"), again)
        drop_all_but("kept", {again.name}, root)
        return {path.read_bytes() for path in (root / "content").iterdir()} == whole  # no halves are left

    seen = read_after_each_kill(root, lambda: keep_files(found, folder, root), read)
    assert all(seen)
    assert len(seen) > 10


@pytest.mark.long
def test_a_revision_that_is_kept_is_untouched_while_the_next_is_copied(folder, tmp_path):
    root, first = tmp_path / "root", pin(spec(), folder)
    kept = root / keep_files(first, folder, root).name
    (folder / "artifacts" / "a.safetensors").write_bytes(NEW)
    second = pin(spec(), folder)

    def read():
        check_member(first.job("a"), kept)
        return (kept / "artifacts" / "a.safetensors").read_bytes()

    assert set(read_after_each_kill(root, lambda: keep_files(second, folder, root), read)) == {OLD}
