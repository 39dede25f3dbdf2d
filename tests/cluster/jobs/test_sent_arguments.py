"""The arguments of a run on their way to a job, and back into what they were there."""

import json
from pathlib import Path

import numpy as np
import pytest

from quorate.cluster.jobs.sent_arguments import packed, unpacked
from quorate.tuning.errors import TuningError
from quorate.tuning.search.space import SearchSpace

SPEC = {
    "name": "two",
    "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
    "members": {"a": {"model": "mine:make", "inputs": ["x"], "config": {"words": "./a.bin"}}},
    "fusion": {"rule": "mean"},
    "classes": ["p", "q"],
}


@pytest.fixture
def place(tmp_path):
    (tmp_path / "here" / "images").mkdir(parents=True)
    (tmp_path / "there").mkdir()
    files = {"spec.json": json.dumps(SPEC), "a.bin": "weights", "mine.py": "make = None", "rows.csv": "x,label"}
    for name, text in {**files, "images/1.png": "one", "costs.csv": ",p,q"}.items():
        (tmp_path / "here" / name).write_text(text)
    return tmp_path


def sent(place, given):
    """What the job gets: through JSON, with the parcel's files in a folder."""
    with packed(given, untrained=False) as (told, parcel):
        for path, file in parcel.files:
            target = place / "there" / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
        told = json.loads(json.dumps(told))
    (place / "runs").mkdir(exist_ok=True)
    return unpacked(told, place / "there", place / "runs")


def test_a_spec_travels_with_all_that_it_names_and_rows_as_files_or_folders(place):
    here = place / "here"
    rows = {"data": here / "rows.csv", "train": str(here / "images")}
    found = sent(place, {"spec": here / "spec.json", **rows, "seed": 3, "teacher": None})
    assert (found["seed"], found["teacher"]) == (3, None)
    assert found["data"].read_text() == "x,label"
    assert (found["train"] / "1.png").read_text() == "one"
    assert {path.name for path in found["spec"].parent.iterdir()} == {"spec.yaml", "a.bin", "mine.py"}


def test_numbers_costs_and_a_search_space_are_what_they_were(place):
    space = SearchSpace(name="digits", epochs=4)
    given = {"costs": np.eye(2), "space": space, "min_gain": {"mood": 0.1}, "objectives": ("log_loss",)}
    found = sent(place, given)
    assert found == {"costs": [[1, 0], [0, 1]], "space": space, "min_gain": {"mood": 0.1}, "objectives": ["log_loss"]}
    assert sent(place, {"costs": str(place / "here" / "costs.csv")})["costs"].read_text() == ",p,q"
    by_output = sent(place, {"costs": {"mood": place / "here" / "costs.csv"}})["costs"]
    assert {output: path.read_text() for output, path in by_output.items()} == {"mood": ",p,q"}


def test_a_run_is_a_copy_that_may_be_written_to(place):
    run = sent(place, {"run": place / "here" / "images"})["run"]
    assert run.parent == place / "runs"
    (run / "1.png").write_text("two")
    assert (place / "there" / "run" / "images" / "1.png").read_text() == "one"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"data": {"x": np.zeros(3)}}, "data: rows in memory .a dict., and a job has files only; write them to a file"),
        ({"data": Path("nowhere.csv")}, "data: nowhere.csv: no such file or folder"),
        ({"metric": len}, "metric: a builtin_function_or_method, which only this process has; give it by name"),
    ],
)
def test_what_only_this_process_has_is_told(given, sentence):
    with pytest.raises(TuningError, match=sentence), packed(given, untrained=False):
        pass
