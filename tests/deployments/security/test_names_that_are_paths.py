"""Names in specs, commands and archives that are paths, specs that would be code: nothing is touched or run."""

import hashlib
import io
import os
import sys
import zipfile

import numpy as np
import pytest
import torch

from quorate.deployments import load_spec, parse_spec
from quorate.deployments.control import transaction
from quorate.deployments.control.deploy import delete, rollback
from quorate.deployments.errors import ClusterError, MemberLoadError, SpecError
from quorate.deployments.records.kept_files import keep_files
from quorate.deployments.rows.reading import Wanted, read_inputs
from quorate.deployments.sources.loading import load_model
from quorate.deployments.spec.digests import pin
from quorate.tuning.search.space import SearchSpace
from tests.deployments.support.memory_store import MemoryStore

# Those that Triton's tests try, and other spellings.
NAMES = [
    "../etc", "a/../b", "/etc/passwd", " ..", "..", ".", "", "a/b", "../", "./a", "..\\a", "\\..\\a", "~", "~root",
    "a\0b", "a\nb", "a\n", "a ", "%2e%2e", "%2e%2e%2f", "%252e%252e%252f", "..%c0%af", "file:a", "C:a",
    "a\u2215b", "-a", "a" * 64,
]  # fmt: skip


def tree_digest(folder):
    """A digest of all names, links and bytes below a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found.update(
            str(path.relative_to(folder)).encode() + (os.readlink(path).encode() if path.is_symlink() else b"")
        )
        if path.is_file():
            found.update(path.read_bytes())
    return found.hexdigest()


@pytest.fixture
def outside(tmp_path):
    """A folder with everything that a path could lead to; as it was, afterwards."""
    folder = tmp_path / "outside"
    for place in ("revisions/one", "content", "etc"):
        (folder / place).mkdir(parents=True)
        (folder / place / "file").write_text("mine")
    before = tree_digest(folder)
    yield folder
    assert tree_digest(folder) == before


def data(**rest):
    member = {"model": "torch.nn:Identity", "inputs": ["x"]}
    inputs = {"x": {"datatype": "FP32", "shape": [2]}}
    given = {"name": "named", "inputs": inputs, "classes": ["0", "1"], "members": {"a": member}}
    return {**given, "fusion": {"rule": "mean"}, **rest}


@pytest.mark.parametrize("name", NAMES)
def test_no_name_in_a_spec_is_a_path(name):
    member = data()["members"]["a"]
    for wrong in (
        data(name=name),
        data(members={name: member}),
        data(inputs={name: {"datatype": "FP32", "shape": [2]}}, members={"a": {**member, "inputs": [name]}}),
        data(fusion=None, fusions={name: {"rule": "mean"}}),
        data(members={"a": {**member, "inputs": [name]}}),
        data(fusion={"rule": "mean", "members": [name]}),
        data(fusion={"rule": name}),
        data(output=name),
    ):
        with pytest.raises(SpecError):
            parse_spec(wrong)
    with pytest.raises(ValueError, match="name"):
        SearchSpace(name=name)


def test_no_name_on_the_command_line_is_a_path(outside, tmp_path, monkeypatch):
    """What clears away an ensemble's copies after a change would clear away others' files."""
    monkeypatch.setattr(transaction, "ClusterStore", MemoryStore)
    monkeypatch.setattr(transaction, "applications", lambda ensemble: [])
    monkeypatch.setattr(transaction, "release", lambda ensemble, used: None)
    monkeypatch.setattr(transaction, "kept_root", lambda: tmp_path / "session" / "kept")
    (tmp_path / "session" / "kept").mkdir(parents=True)
    for name in ("../../outside", str(outside), f"{outside}/.", f"named/../../../{outside.name}", *NAMES):
        for command in (delete, rollback):
            with pytest.raises(ClusterError, match=r"(?s)^no ensemble '.*' runs here; quorate status lists"):
                command(name)


def test_a_link_beside_a_spec_is_read_and_what_it_leads_to_stays(outside, tmp_path):
    folder = tmp_path / "spec"
    folder.mkdir()
    (folder / "a.safetensors").symlink_to(outside / "etc" / "file")
    (folder / "more").symlink_to(outside)
    spec = data()
    spec["members"]["a"]["weights"] = "a.safetensors"
    kept = tmp_path / "root" / keep_files(pin(parse_spec(spec), folder), folder, tmp_path / "root").name
    assert not (kept / "a.safetensors").is_symlink()
    assert (kept / "a.safetensors").read_text() == "mine"
    (kept / "a.safetensors").write_text("another's")  # the copy is a copy


SLIPS = ["../slipped", "../../slipped", "/tmp/slipped", "a/../../slipped", "..\\slipped"]


@pytest.mark.long
@pytest.mark.parametrize("slip", SLIPS)
def test_an_archive_is_never_unpacked(outside, slip):
    """Rows and models are read out of archives, by the names that are looked for."""
    folder = outside / "etc" / "archives"
    folder.mkdir()
    slipped = slip.replace("/tmp", str(outside))
    rows = io.BytesIO()
    np.lib.format.write_array(rows, np.zeros((1, 2), np.float32))
    with zipfile.ZipFile(folder / "rows.npz", "w") as archive:
        archive.writestr(f"{slipped}.npy", rows.getvalue())
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2).eval(), (torch.zeros(2, 2),)), folder / "a.pt2")
    with zipfile.ZipFile(folder / "a.pt2", "a") as archive:
        archive.writestr(slipped, b"slipped")
    before = tree_digest(outside.parent)
    with pytest.raises(Exception, match="slipped"):
        read_inputs(folder / "rows.npz", {"x": Wanted("FP32", (2,))})
    found = parse_spec(data(members={"a": {"model": "a.pt2", "inputs": ["x"]}}))
    try:
        load_model("a", found.members["a"], folder)
    except MemberLoadError as error:
        assert "a.pt2" in str(error)  # noqa: PT017 - either is right
    assert tree_digest(outside.parent) == before
    for name in ("rows.npz", "a.pt2"):
        (folder / name).unlink()
    folder.rmdir()


TAGS = [
    "!!python/object/apply:os.system ['touch told']", "!!python/object/new:os.system ['touch told']",
    "!!python/name:os.system", "!!python/module:told", "!!python/object:told.Told {}", "!!python/tuple [1]",
    "!python/name:os.system", "!!binary aGk=", "!include /etc/passwd", "!env HOME", "!!set {a}",
    "!!timestamp 2001-01-01", "!!timestamp x", "!!int ''",
    "2001-13-01", "? [a]", "*a", "!!int x", "!!float y", "!!bool z", "0b", "!!omap [1]", "{}: {}",
]  # fmt: skip


@pytest.fixture
def telling(tmp_path, monkeypatch):
    """A module beside the spec that tells when it is imported."""
    monkeypatch.chdir(tmp_path)
    told = str(tmp_path / "told")
    (tmp_path / "telling_module.py").write_text(f"open({told!r}, 'w')\ndef make():\n    return None\n")
    yield tmp_path
    assert not (tmp_path / "told").exists()
    assert "telling_module" not in sys.modules


@pytest.mark.parametrize("tag", TAGS)
def test_no_tag_of_yaml_makes_an_object_or_reads_a_file(telling, tag):
    for line in ("name: {}", "members: {{a: {{model: {}, inputs: [x]}}}}", "{}: 1"):
        (telling / "spec.yaml").write_text(line.format(tag) + "\n")
        with pytest.raises(SpecError):
            load_spec(telling / "spec.yaml")


def test_checking_a_spec_imports_nothing_that_it_names(telling):
    """Whoever may deploy a spec file may run code; reading one runs none."""
    spec = data(members={"a": {"model": "telling_module:make", "inputs": ["x"]}})
    (telling / "spec.yaml").write_text(repr(spec))
    found = load_spec(telling / "spec.yaml")
    pin(found, telling)
    assert found.members["a"].model == "telling_module:make"


@pytest.mark.parametrize(
    "text", ["$HOME", "${HOME}", "%(HOME)s", "~", "{HOME}", "{0.__class__}", "$(id)", "`id`", "%s%n"]
)
def test_no_variable_in_a_spec_is_put_in(tmp_path, text):
    spec = data()
    spec["members"]["a"] = {**spec["members"]["a"], "config": {"text": text, "list": [text]}}
    (tmp_path / "spec.yaml").write_text(repr(spec))
    assert load_spec(tmp_path / "spec.yaml").members["a"].config == {"text": text, "list": [text]}
    spec["members"]["a"]["weights"] = f"{text}/a.safetensors"
    (tmp_path / "spec.yaml").write_text(repr(spec))
    with pytest.raises(SpecError) as error:
        load_spec(tmp_path / "spec.yaml")
    assert f"there is no file {tmp_path}/{text}/a.safetensors" in str(error.value)
