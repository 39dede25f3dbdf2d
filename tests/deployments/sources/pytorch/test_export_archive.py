"""No .pt2 file runs code when it is loaded, wherever in it the code lies."""

import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from quorate.deployments.sources.pytorch.export_archive import UnsafeArchiveError, check_archive

pytestmark = pytest.mark.long


class Canary:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.pt2"
    torch.export.save(torch.export.export(torch.nn.Linear(4, 3).eval(), (torch.zeros(2, 4),)), path)
    return path


def changed(archive, target, replaced):
    """The archive with other bytes for some entries; ``replaced`` gives them by the end of an entry's name."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            found = [data for end, data in replaced.items() if name.endswith(end)]
            new.writestr(name, found[0] if found else old.read(name))
    return target


def test_what_torch_export_writes_is_accepted(archive):
    check_archive(archive)
    assert isinstance(torch.export.load(archive), torch.export.ExportedProgram)


def test_a_pickle_among_the_sample_inputs_is_refused_and_never_run(archive, tmp_path):
    canary = tmp_path / "canary"
    bad = changed(archive, tmp_path / "bad.pt2", {"sample_inputs/model.pt": pickle.dumps(Canary(canary))})
    with pytest.raises(UnsafeArchiveError, match=r"model\.pt is a pickle of more than tensors"):
        check_archive(bad)
    assert not canary.exists()


def test_a_weight_that_is_marked_as_a_pickle_is_refused_and_never_run(archive, tmp_path):
    canary = tmp_path / "canary"
    with zipfile.ZipFile(archive) as opened:
        (config,) = [name for name in opened.namelist() if name.endswith("model_weights_config.json")]
        text = opened.read(config).replace(b'"use_pickle": false', b'"use_pickle": true')
    bad = changed(archive, tmp_path / "bad.pt2", {
        "model_weights_config.json": text, "weight_0": pickle.dumps(Canary(canary)),
    })  # fmt: skip
    assert text.count(b'"use_pickle": true')
    with pytest.raises(UnsafeArchiveError, match="weight_0 is a pickle"):
        check_archive(bad)
    assert not canary.exists()


def test_an_entry_that_is_there_twice_is_refused(archive, tmp_path):
    bad = tmp_path / "bad.pt2"
    bad.write_bytes(archive.read_bytes())
    with zipfile.ZipFile(bad, "a") as opened:
        (name,) = [found for found in opened.namelist() if found.endswith("sample_inputs/model.pt")]
        with pytest.warns(UserWarning, match="Duplicate name"):
            opened.writestr(name, b"")
    with pytest.raises(UnsafeArchiveError, match=r"model\.pt twice"):
        check_archive(bad)


def test_a_program_that_opens_files_is_refused(archive, tmp_path):
    with zipfile.ZipFile(archive) as opened:
        (model,) = [name for name in opened.namelist() if name.endswith("models/model.json")]
        text = opened.read(model).replace(b"torch.ops.aten.linear.default", b"torch.ops.aten.from_file.default")
    bad = changed(archive, tmp_path / "bad.pt2", {"models/model.json": text})
    with pytest.raises(
        UnsafeArchiveError, match=r"models/model\.json asks for torch\.ops\.aten\.from_file, which opens"
    ):
        check_archive(bad)


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "bad.pt2").write_bytes(b"no zip at all")
    with pytest.raises(UnsafeArchiveError, match="cannot be read"):
        check_archive(tmp_path / "bad.pt2")
