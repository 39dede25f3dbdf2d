"""A run on its way home from a job: whole, verified, and where runs are."""

import hashlib
import zipfile
from io import BytesIO

import pytest

from quorate.cluster.jobs.bringing_home import Home, taken_name
from quorate.deployments.errors import ClusterError


def archive(**files):
    data = BytesIO()
    with zipfile.ZipFile(data, "w") as written:
        for name, text in files.items():
            written.writestr(f"one/{name}", text)
    return data.getvalue()


class Api:
    """The Jobs API of a cluster that has one file."""

    def __init__(self, data):
        self._data, self.put = data, []

    def read_file(self, node_id, name):
        yield from (self._data[at : at + 7] for at in range(0, len(self._data), 7))

    def put_package(self, name, data):
        self.put.append(name)


def about(data, whole=True):
    found = {"node_id": "n", "file": "f", "job": "job", "place": "/there", "names": ["one"], "size_bytes": len(data)}
    return {**found, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "whole": whole}


@pytest.fixture
def said():
    return []


def home(folder, said, taken_up=None):
    return Home(folder, taken_up, lambda step: None, said.append)


def test_a_new_run_gets_a_free_name_and_the_job_is_told_that_it_is_here(tmp_path, said):
    data = archive(report="{}")
    for name in ("one", "one-2"):
        api, found = Api(data), home(tmp_path / "runs", said)
        found.take(api, about(data))
        assert found.places == {"/there/one": tmp_path / "runs" / name}
        assert (tmp_path / "runs" / name / "report").read_text() == "{}"
        assert api.put == [taken_name("job")]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["one", "one-2"]
    assert said == []


def test_a_run_that_was_taken_up_comes_back_to_its_place_and_what_it_dropped_is_gone(tmp_path, said):
    data, place = archive(report="new"), tmp_path / "runs" / "mine"
    place.mkdir(parents=True)
    (place / "checkpoint").write_text("old")
    home(tmp_path / "runs", said, place).take(Api(data), about(data, whole=False))
    assert {path.name: path.read_text() for path in place.iterdir()} == {"report": "new"}
    assert said == [f"--resume takes up what there is: {place}"]


def test_what_is_not_what_was_sent_is_refused_and_leaves_nothing(tmp_path, said):
    data = archive(report="{}")
    api = Api(data[:-9])
    with pytest.raises(ClusterError, match="what came of the run is not what was sent"):
        home(tmp_path, said).take(api, about(data))
    assert list(tmp_path.iterdir()) == []
    assert api.put == []


def test_no_file_of_it_leaves_its_folder(tmp_path, said):
    data = archive(**{"../../out": "x"})
    home(tmp_path / "runs", said).take(Api(data), about(data))
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]
