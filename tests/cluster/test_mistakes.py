"""Mistakes that people make, each with its sentence: of a spec, of a member's code, of rows, of an address.

Where nothing has to start for it, nothing does.
"""

import hashlib
import re

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from safetensors.numpy import save_file

from quorate.cluster.operations.deploy import deploy
from quorate.cluster.operations.query import query
from quorate.cluster.operations.try_spec import try_spec
from quorate.cluster.operations.tuning.tune import tune
from quorate.cluster.operations.validate import validate
from quorate.deployments import Doors
from quorate.deployments.security.credentials import Credentials
from quorate.deployments.security.doors import bind
from quorate.fusion.errors import QuorateError

CODE = """
import numpy as np
import torch

def ok(width=2):
    return lambda x: np.full((len(x), width), 1 / width, np.float32)

def raises():
    raise RuntimeError("cannot open the vocabulary")

def lacks():
    import nobody_has_this

def fails():
    def model(x):
        raise KeyError("no such feature")
    return model

def nothing(): ...

def linear(inputs=4):
    return torch.nn.Linear(inputs, 2)

def whole_numbers():
    return lambda x: torch.nn.functional.embedding(torch.from_numpy(x), torch.zeros(3, 2))

def nan():
    return lambda x: np.full((len(x), 2), np.nan, np.float32)

def words():
    return lambda x: np.array(["a"] * len(x))

def pair():
    return lambda x: (np.ones((len(x), 2)), np.ones((len(x), 4, 3)))

def named():
    return lambda x: {"scores": np.ones((len(x), 2)), "boxes": np.ones((len(x), 4))}
"""
SPEC = """\
name: e
inputs: {x: {datatype: FP32, shape: [4]}}
classes: [a, b]
members:
  m:
    model: "own_mistakes:ok"
    inputs: [x]
    output: probabilities
fusion: {rule: mean}
"""
ROWS = {"x": np.ones((2, 4), np.float32)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "own_mistakes.py").write_text(CODE)
    (tmp_path / "model.pt2").write_bytes(b"")
    save_file({"weight": np.zeros((2, 9), np.float32)}, tmp_path / "other.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder, old="", new=""):
    path = folder / "e.yaml"
    assert old in SPEC
    path.write_text(SPEC.replace(old, new, 1) if old else SPEC)
    return path


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"own_mistakes:ok"', "modle.pt2", "there is no file .*modle.pt2; did you mean 'model.pt2'"),
        ("own_mistakes:ok", "yours:ok", "there is no module 'yours'; install it, or put it beside the spec"),
        ("own_mistakes:ok", "own_mistakes:okk", "members.m.model: own_mistakes has no 'okk'; did you mean 'ok'"),
        ('"own_mistakes:ok"', "model.gguf", "'model.gguf' is no model; write package.module:factory"),
        ("    inputs: [x]", "    inputs: [x]\n    weights: w.h5", "w.h5' is not a .safetensors, .* file; save the"),
        ("    inputs: [x]", "    inputs: [x]\n    config: {wdith: 3}", "no such parameter; did you mean 'width'"),
        ("rule: mean", "rule: average", "fusion.rule: there is no rule 'average'; did you mean 'mean'"),
        ("rule: mean", "rule: maen", "did you mean 'mean'"),
        ("    inputs", "    input", "members.m.input: unknown key; did you mean 'inputs'"),
        ("output", "ouput", "members.m.ouput: unknown key; did you mean 'output'"),
        ("probabilities", "softmax", "found 'softmax'; did you mean 'probabilities'"),
        ("    inputs", "\tinputs", "e.yaml: not YAML at line 7.*"),
        ("    inputs: [x]", "    inputs: [x]\n    inputs: [x]", r"inputs.* twice .*line 8"),
        ("name: e", "version: 1\nname: e", "version: unknown key; a spec has no version; remove it"),
        ("name: e", "name: my model", "'my model' is not allowed; use letters, digits, _ and -, such as my-model"),
        ("  m:\n    model", "  - model", "members: found a list; name each: members: {NAME: {model: "),
        ("FP32", "float32", "inputs.x.datatype: found 'float32'; did you mean 'FP32'"),
        ("FP32", "string", "did you mean 'BYTES'"),
        ("[a, b]", "[a, a]", "classes: a is listed twice; name each class once"),
        ("    inputs: [x]", "    inputs: [y]", "'y' is no input, member or fusion; choose from fused, x"),
        ("rule: mean", "rule: mean, members: [n]", "'n' is no member here; choose from m"),
        ("rule: mean", "rule: mean, quorum: 2", "2 members must answer but only 1 are fused"),
    ],
)  # fmt: skip
def test_of_a_spec_are_told_by_validate_with_the_line(folder, old, new, said):
    with pytest.raises(QuorateError, match=said) as raised:
        validate(written(folder, old, new))
    assert re.search(r"e\.yaml:\d+: |line \d", str(raised.value))


def test_a_spec_that_is_not_there_and_one_that_is_none_are_told_apart(folder):
    with pytest.raises(QuorateError, match=r"nowhere.yaml: cannot be read \(No such file"):
        validate("nowhere.yaml")
    (folder / "list.yaml").write_text("- a\n")
    with pytest.raises(QuorateError, match=r"list.yaml: the file holds no mapping; start with 'name: ...'"):
        validate("list.yaml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("own_mistakes:ok", "own_mistakes:raises", "RuntimeError: cannot open the vocabulary; correct it, .*\n"
         "  own_mistakes.py:9, in raises"),
        ("own_mistakes:ok", "own_mistakes:lacks", "install nobody_has_this on every node that runs the member"),
        ("own_mistakes:ok", "own_mistakes:nothing", "returned None; return an nn.Module or a callable"),
        ("own_mistakes:ok", "own_mistakes:fails", "KeyError: 'no such feature'.*\n  own_mistakes.py:16, in model"),
        ("    inputs: [x]", "    inputs: [x]\n    config: {width: 3}", r"\[3\] values a row but has 2 classes"),
        ("[a, b]", "[a, b, c]", r"returned \[2\] values a row but has 3 classes"),
        ("own_mistakes:ok", "own_mistakes:pair", "say which is the member's output: output_name: 0, or another"),
        ("own_mistakes:ok", "own_mistakes:named", "say which is the member's output: output_name: scores, or another"),
        ("own_mistakes:ok", "own_mistakes:words", "returned dtype <U1, which is no number"),
        ('ok"', 'linear"\n    config: {inputs: 5}', r"fails on an example .* cannot be multiplied \(2x4 and 5x2\)"),
        ("own_mistakes:ok", "own_mistakes:whole_numbers", "argument #1 'indices' to have .* Long, Int"),
        ('ok"', 'linear"\n    weights: other.safetensors', r"not fit the model: (?s:.*)size mismatch for weight"),
    ],
)  # fmt: skip
def test_of_a_members_code_and_files_are_told_by_try_with_the_line_of_the_spec(folder, old, new, said):
    with pytest.raises(QuorateError, match=r"^e\.yaml:6: members\.m: (?s:.*)" + said):
        try_spec(written(folder, old, new), ROWS)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"y": ROWS["x"]}, "'y' is no input of the model; it reads x"),
        ({"x": np.ones((2, 5), np.float32)}, r"input 'x' has shape \[2, 5\]; the model reads \[-1, 4\]"),
        ({"x": [["a"] * 4]}, "input 'x': row 0: 'a', the model reads FP32; give a number"),
        ({"x": np.ones((0, 4), np.float32)}, "the batch has 0 rows; give 1 to"),
    ],
)
def test_of_rows_are_told_by_try(folder, rows, said):
    with pytest.raises(QuorateError, match=said):
        try_spec(written(folder), rows)


def test_a_model_that_gives_nan_is_told(folder):
    with pytest.raises(QuorateError, match="row 0 got no finite answer from m: its inputs are finite, but"):
        try_spec(written(folder, "own_mistakes:ok", "own_mistakes:nan"), ROWS)
    with pytest.raises(QuorateError, match=r"e\.yaml:6: members\.m: every row failed \(the model returned NaN"):
        tune(folder / "e.yaml", table(folder, 40))


def table(folder, rows, column="x", label="label", labels=("a", "b")):
    x = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(4 * rows, np.float32)), 4)
    found = (list(labels) * rows)[:rows]
    values = pa.array(found, pa.string()) if not found else pa.array(found)
    parquet.write_table(pa.table({column: x, label: values}), folder / "rows.parquet")
    return folder / "rows.parquet"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"labels": ("a", "zzz")}, "no class: zzz; the spec's classes are a, b"),
        ({"column": "y"}, "no column '?x"),
        ({"label": "target"}, "no column '?label"),
        ({"rows": 0}, "rows"),
    ],
)
def test_of_labelled_rows_are_told_by_tune(folder, asked, said):
    with pytest.raises(QuorateError, match=said):
        tune(written(folder), table(folder, **{"rows": 6, **asked}))


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://127.0.0.1:8000", "grpc://127.0.0.1:8001"])
def test_an_address_that_is_no_url_of_a_door_is_told(url):
    with pytest.raises(QuorateError, match=f"'{url}' is no URL of a door; give http://HOST:PORT"):
        query("e", ROWS, url=url)


def test_where_nothing_runs_and_where_nobody_listens_is_told(folder, monkeypatch):
    monkeypatch.setenv("QUORATE_HOME", str(folder / "home"))
    with pytest.raises(QuorateError, match="no local cluster runs; quorate deploy SPEC starts one"):
        query("e", ROWS)
    with (
        bind("127.0.0.1", 0) as unused,
        pytest.raises(QuorateError, match=r"no answer from .*is the ensemble deployed\?"),
    ):
        query("e", ROWS, url=f"http://127.0.0.1:{unused.getsockname()[1]}")


def test_a_port_that_is_taken_is_told_before_anything_starts(folder, monkeypatch):
    monkeypatch.setenv("QUORATE_HOME", str(folder / "home"))
    with bind("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            QuorateError, match=f"port {port} of 127.0.0.1 cannot be had .*; give another, or 0 for a free"
        ):
            deploy(written(folder), http_port=port)


def test_a_wrong_token_is_told(open_doors, pair_spec):
    right = hashlib.sha256(b"t" * 40).hexdigest()
    doors = open_doors({**pair_spec, "name": "by-token"}, Doors(ask_tokens=(right,)))
    for token, said in (("w" * 40, "401: .*token"), ("", "401: no bearer token")):
        with pytest.raises(QuorateError, match=said):
            query("by-token", {"x": np.zeros((1, 2), np.float32)}, url=doors.http, credentials=Credentials(token=token))
