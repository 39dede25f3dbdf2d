"""Copies of what a publication names: what restarts or rolls back finds what was published."""

import pytest

from quorate.deployments import parse_spec
from quorate.deployments.errors import DeployError
from quorate.deployments.records.content_cache import ContentCache
from quorate.deployments.records.kept_files import drop_all_but, drop_damaged, keep_ensemble_files, keep_files
from quorate.deployments.spec.digests import check_member, file_digest, pin
from quorate.deployments.spec.outside_files import inside


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "spec" / "artifacts").mkdir(parents=True)
    (tmp_path / "spec" / "artifacts" / "a.safetensors").write_bytes(b"weights")
    (tmp_path / "spec" / "kept_factory.py").write_text("def make():\n    return None\n")
    return tmp_path / "spec"


def unpinned(weights="artifacts/a.safetensors"):
    members = {"a": {"model": "kept_factory:make", "weights": weights, "inputs": ["x"]}}
    inputs = {"x": {"datatype": "FP32", "shape": [2]}}
    return parse_spec(
        {"name": "kept", "inputs": inputs, "classes": ["0", "1"], "members": members, "fusion": {"rule": "mean"}}
    )


def spec(folder):
    return pin(unpinned(), folder)


def keep(found, folder, root):
    """The folder of the copies."""
    return root / keep_files(found, folder, root).name


def test_copies_outlast_a_change_of_what_they_are_of(folder, tmp_path):
    found = spec(folder)
    kept = keep(found, folder, tmp_path / "root")
    (folder / "artifacts" / "a.safetensors").write_bytes(b"trained again")
    (folder / "kept_factory.py").unlink()
    assert (kept / "artifacts" / "a.safetensors").read_bytes() == b"weights"
    for name in found.members:
        check_member(found.job(name), kept)


def test_the_same_content_is_kept_once(folder, tmp_path):
    first = spec(folder)
    (folder / "kept_factory.py").write_text("def make():\n    return 1\n")
    second = spec(folder)
    assert first.revision != second.revision
    kept = [keep(found, folder, tmp_path / "root") / "artifacts/a.safetensors" for found in (first, second, second)]
    assert len({path.stat().st_ino for path in kept}) == 1


def test_of_a_revision_with_the_same_members_only_what_is_the_ensembles_own_is_copied(folder, tmp_path):
    root, first = tmp_path / "root", spec(folder)
    before = keep_files(first, folder, root)
    own = tmp_path / "own"
    own.mkdir()
    (own / "learned.safetensors").write_bytes(b"learned")
    fusion = first.fusion.model_copy(update={"rule": "bandit", "state": "learned.safetensors"})
    digests = {**first.digests, "fusion.state": file_digest(own / "learned.safetensors")}
    second = first.model_copy(update={"fusion": fusion, "digests": digests})
    kept = keep_ensemble_files(second, own, before, root, ContentCache(root))
    assert kept.name.name == second.revision != first.revision
    assert kept.of("a").files == before.of("a").files
    assert [file.path for file in kept.of("").files] == ["learned.safetensors"]
    assert (root / kept.name / "learned.safetensors").read_bytes() == b"learned"


def test_what_no_revision_needs_any_more_goes_when_the_cache_needs_its_room_and_the_rest_stays(folder, tmp_path):
    root, first = tmp_path / "root", spec(folder)
    keep_files(first, folder, root)
    (folder / "artifacts" / "a.safetensors").write_bytes(b"trained again")
    second = keep(spec(folder), folder, root)
    drop_all_but("kept", {second.name}, root)
    assert [path.name for path in second.parent.iterdir()] == [second.name]
    code = (folder / "kept_factory.py").read_bytes()
    assert contents(root) == {b"weights", b"trained again", code}
    ContentCache(root, limit_bytes=0).evict()
    assert contents(root) == {b"trained again", code}
    drop_all_but("kept", set(), root)
    assert not (root / "kept").exists()
    ContentCache(root, limit_bytes=0).evict()
    assert contents(root) == set()


def contents(root):
    """All that the cache holds."""
    return {path.read_bytes() for path in (root / "content").glob("*")}


def test_ensembles_do_not_delete_each_others_copies(folder, tmp_path):
    kept = keep(spec(folder), folder, tmp_path / "root")
    drop_all_but("another", set(), tmp_path / "root")
    ContentCache(tmp_path / "root", limit_bytes=0).evict()
    assert (kept / "kept_factory.py").is_file()
    assert len(contents(tmp_path / "root")) == 2


def test_a_file_that_changes_while_it_is_deployed_is_refused(folder, tmp_path):
    found = spec(folder)
    (folder / "artifacts" / "a.safetensors").write_bytes(b"trained again")
    with pytest.raises(DeployError, match=r"a\.safetensors was changed while it was deployed; deploy again"):
        keep_files(found, folder, tmp_path / "root")
    assert not list((tmp_path / "root" / "receiving").iterdir())
    assert contents(tmp_path / "root") == set()


def test_what_a_factory_reads_beside_itself_is_there_too(folder, tmp_path):
    (folder / "words.txt").write_text("a b")
    (folder / "artifacts" / "notes.txt").write_text("c")
    for _ in range(2):
        kept = keep(spec(folder), folder, tmp_path / "root")
    assert [(kept / name).read_text() for name in ("words.txt", "artifacts/notes.txt")] == ["a b", "c"]
    assert not (kept / "kept_factory.py").is_symlink()
    drop_all_but("kept", set(), tmp_path / "root")
    assert (folder / "words.txt").is_file()


@pytest.mark.parametrize("weights", ["../outside.safetensors", "absolute"])
def test_what_lies_elsewhere_is_kept_too_and_the_revision_does_not_say_where_it_lay(folder, tmp_path, weights):
    outside = folder.parent / "outside.safetensors"
    outside.write_bytes(b"elsewhere")
    with inside(unpinned(str(outside) if weights == "absolute" else weights), folder) as (found, place):
        pinned = pin(found, place)
        kept = keep(pinned, place, tmp_path / "root")
    outside.unlink()
    assert pinned.members["a"].weights == "outside/members.a.weights/outside.safetensors"
    assert (kept / pinned.members["a"].weights).read_bytes() == b"elsewhere"
    check_member(pinned.job("a"), kept)


def test_a_copy_that_was_damaged_is_found_and_kept_anew(folder, tmp_path):
    root, found = tmp_path / "root", spec(folder)
    files = keep_files(found, folder, root)
    (root / files.name / "artifacts" / "a.safetensors").write_bytes(b"w_ights")  # as a disk that lost a bit
    (damaged,) = drop_damaged(files.files, root / files.name, ContentCache(root))
    assert damaged.path == "artifacts/a.safetensors"
    keep_files(found, folder, root)
    check_member(found.job("a"), root / files.name)
    assert (root / files.name / damaged.path).read_bytes() == b"weights"
