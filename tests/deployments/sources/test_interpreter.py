"""``python:`` of a member: its model runs in an interpreter of another environment, which has other versions."""

import site
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import quorate
from quorate.deployments import errors, load_model, parse_spec
from quorate.deployments.errors import MemberLoadError, SpecError
from quorate.deployments.logs.failures import Failures
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.transport.row_state import RowState

pytestmark = pytest.mark.long  # each starts an interpreter, and imports torch there

CODE = """
import os
import clashing

def versions(fail=""):
    print("loaded with", clashing.VERSION)
    if fail == "load":
        raise RuntimeError("cannot open the vocabulary")

    def model(x):
        if (x == 11).any():
            raise KeyError("no such feature")
        if (x > 50).any():
            os._exit(7)
        return x * clashing.VERSION
    return model
"""
ROWS = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An interpreter with a library in another version than here, and a folder with a factory that asks for it."""
    folder = tmp_path_factory.mktemp("clash")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    (packages,) = (folder / "env/lib").glob("python*/site-packages")
    (packages / "clashing.py").write_text("VERSION = 2.0")
    here = [
        *site.getsitepackages(),
        str(Path(errors.__file__).parents[2]),
        *(p for p in sys.path if p.endswith("site-packages")),
    ]
    (packages / "beside.pth").write_text("\n".join(dict.fromkeys(here)))
    work = folder / "work"
    work.mkdir()
    (work / "clashing_members.py").write_text(CODE)
    (work / "clashing.py").write_text("VERSION = 1.0")  # after what is installed, as the spec's folder is
    return folder / "env/bin/python", work


def spec(python, **config):
    member = {"model": "clashing_members:versions", "config": config, "inputs": ["x"], "output": "values"}
    own = {"python": str(python)} if python else {}
    tensors = {"x": {"datatype": "FP32", "shape": [2]}}
    return parse_spec(
        {"name": "clash", "inputs": tensors, "members": {"m": {**member, **own}}, "fusion": {"rule": "mean"}}
    )


def predictor_of(asked, folder):
    found = Predictor(load_model("m", asked.members["m"], folder), asked.job("m"))
    found.warm_up()
    return found


def test_the_model_runs_with_the_versions_of_the_other_environment(environment, capsys):
    python, folder = environment
    found = quorate.try_spec(spec(python), {"x": ROWS}, folder=folder)
    np.testing.assert_array_equal(found.outputs["fused"], 2 * ROWS)
    assert "loaded with 2.0" in capsys.readouterr().out


def test_what_fails_there_is_told_as_here_and_a_process_that_ends_takes_the_replica_with_it(environment):
    python, folder = environment
    written: list[str] = []
    predictor = predictor_of(spec(python), folder)
    predictor.on_failure = Failures(written.append).note
    values, states = predictor.run({"x": np.array([[1, 2], [11, 0]], np.float32)}, probabilities=True)
    assert (states.tolist(), values[0].tolist()) == ([RowState.OK, RowState.ERROR], [2.0, 4.0])
    assert predictor.last_error == """KeyError: 'no such feature'"""
    assert predictor.last_trace == """  clashing_members.py:12, in model\n    raise KeyError("no such feature")"""
    assert 'clashing_members.py", line 12, in model' in written[0]
    with pytest.raises(SystemExit, match="ended with code 7"):
        predictor.run({"x": 100 * ROWS}, probabilities=True)


def test_what_cannot_be_loaded_there_is_said_as_here(environment):
    python, folder = environment
    with pytest.raises(MemberLoadError) as error:
        predictor_of(spec(python, fail="load"), folder)
    with pytest.raises(MemberLoadError) as here:
        predictor_of(spec("", fail="load"), folder)
    assert str(error.value) == str(here.value)
    assert "RuntimeError: cannot open the vocabulary" in str(error.value)


def test_an_interpreter_that_is_not_there_or_has_no_quorate_is_said_in_a_sentence(environment, tmp_path):
    folder = environment[1]
    with pytest.raises(SpecError, match=r"members\.m\.python: 'bin/python' is no absolute path; give the absolute"):
        spec("bin/python")
    with pytest.raises(MemberLoadError, match=r"there is no interpreter /nowhere/python on this node; give"):
        predictor_of(spec("/nowhere/python"), folder)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path], check=True)
    with pytest.raises(
        MemberLoadError, match=r"ended with code 1 before .* said: .*quorate.*; install there .*pip install"
    ):
        predictor_of(spec(tmp_path / "bin/python"), folder)
