"""Rows that models are tried on: of the sizes, or with the content, that the spec gives."""

import json

import numpy as np
import pytest

import quorate
from quorate.deployments import load_model, parse_spec
from quorate.deployments.errors import MemberLoadError, SpecError
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.rows.example import check_examples, example_rows
from quorate.deployments.spec.digests import pin


def spec(datatype="FP32", shape=(1, -1), member=None, **words):
    tensor = {"datatype": datatype, "shape": list(shape), **words}
    config = {"in_channels": 1, "out_channels": 2, "kernel_size": 10}
    member = member or {"model": "torch.nn:Conv1d", "config": config, "output": "values"}
    members = {"m": {**member, "inputs": ["x"]}}
    return {"name": "tried", "inputs": {"x": tensor}, "members": members, "fusion": {"rule": "mean"}}


def warmed_up(spec, folder):
    job = parse_spec(spec).job("m")
    found = Predictor(load_model("m", job.member, folder), job)
    found.warm_up()
    return found


def test_a_convolution_over_rows_of_any_length_is_tried_on_the_length_that_the_spec_says(tmp_path):
    with pytest.raises(MemberLoadError, match=r"Kernel size.* inputs\.x\.example"):
        warmed_up(spec(), tmp_path)
    assert warmed_up(spec(example=[1, 16]), tmp_path).dims == (-1, -1)


def test_an_element_of_bytes_is_read_from_a_file(tmp_path):
    (tmp_path / "clip.wav").write_bytes(b"RIFF\0")
    found = example_rows(parse_spec(spec("BYTES", (-1,), example="clip.wav")).inputs, 2, tmp_path)["x"]
    assert found.tolist() == [[b"RIFF\0"], [b"RIFF\0"]]


@pytest.mark.parametrize("kind", ["npy", "npz", "json"])
def test_a_row_of_numbers_is_the_first_of_a_file(tmp_path, kind):
    rows = np.arange(24, dtype=np.float64).reshape(2, 1, 12)
    path = tmp_path / f"row.{kind}"
    if kind == "json":
        path.write_text(json.dumps(rows.tolist()))
    else:
        np.save(path, rows) if kind == "npy" else np.savez(path, x=rows)
    given = parse_spec(spec(example=path.name)).inputs
    check_examples(given, tmp_path)
    found = example_rows(given, 2, tmp_path)["x"]
    assert (str(found.dtype), found.tolist()) == ("float32", [rows[0].tolist()] * 2)
    assert warmed_up(spec(example=path.name), tmp_path).dims == (-1, -1)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (
            np.zeros((2, 3, 12)),
            r"inputs\.x\.example: row\.npy: column 'x' has rows of shape \[3, 12\], the model reads \[1, -1\]",
        ),
        (np.array([[["a"]]]), r"inputs\.x\.example: row\.npy: column 'x', row 0: 'a', the model reads FP32"),
    ],
)
def test_a_file_of_other_rows_is_refused_by_validate(tmp_path, rows, sentence):
    np.save(tmp_path / "row.npy", rows)
    with pytest.raises(SpecError, match=sentence):
        quorate.validate(spec(example="row.npy"), folder=tmp_path)


def test_the_file_is_part_of_the_revision(tmp_path):
    (tmp_path / "clip.wav").write_bytes(b"RIFF\0")
    (tmp_path / "m.safetensors").write_bytes(b"")
    found = pin(parse_spec(spec("BYTES", (), example="clip.wav")), tmp_path)
    assert "inputs.x.example" in found.digests


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"example": [16]}, r"inputs\.x\.example: \[16\] is no row of shape \[1, -1\]; give a size for each -1"),
        ({"example": [2, 16]}, r"inputs\.x\.example: \[2, 16\] is no row of shape \[1, -1\]"),
    ],
)
def test_what_is_no_example_is_refused(words, sentence):
    with pytest.raises(SpecError, match=sentence):
        parse_spec(spec(**words))


def test_an_ensemble_says_what_sizes_it_was_tried_with(open_doors):
    found = open_doors(spec(example=[1, 16]))
    with quorate.Client(found.http, model="tried") as client:
        assert client.metadata()["inputs"][0]["parameters"] == {"example_shape": "[1, 16]"}
        assert client.infer(x=np.zeros((2, 1, 12), np.float32)).outputs["fused"].shape == (2, 2, 3)
