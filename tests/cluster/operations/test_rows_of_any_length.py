"""Rows of other lengths, sequences and sounds: asked, tried, streamed and tuned, each with those of its own."""

import io

import numpy as np
import pandas as pd
import polars as pl
import pytest
from pyarrow import parquet
from scipy.io import wavfile

import quorate
from quorate.deployments.client.load.given_bodies import given_bodies
from quorate.deployments.client.result import Result
from quorate.deployments.errors import RequestError
from quorate.tuning.errors import DataError
from quorate.tuning.predictions.store import PredictionStore
from quorate.tuning.runs.probe import load_probe

RNG = np.random.default_rng(3)
LENGTHS = (3, 1, 3, 3, 5, 1)
ROWS = [RNG.normal(size=(length, 2)).astype(np.float32) for length in LENGTHS]
# Each answers by the whole row, so that padding would show; one fails on rows of five steps.
CODE = """
import numpy as np

def shares(weight):
    def model(steps):
        first = 1 / (1 + np.exp(-weight * steps.sum(axis=(1, 2))))
        return np.stack([first, 1 - first], axis=1)
    return model

def short():
    def model(steps):
        if steps.shape[1] > 4:
            raise ValueError("too long")
        return shares(1)(steps)
    return model
"""
SPEC = """
name: sequences
inputs: {steps: {datatype: FP32, shape: [-1, 2], example: [2, 2]}}
classes: [up, down]
members:
  long: {model: "of_any_length:shares", config: {weight: 0.5}, inputs: [steps], output: probabilities}
  short: {model: "of_any_length:short", inputs: [steps], output: probabilities}
fusion: {rule: mean, deadline_s: 30}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sequences")
    (folder / "of_any_length.py").write_text(CODE)
    (folder / "spec.yaml").write_text(SPEC)
    return folder


@pytest.fixture(scope="module")
def url(open_doors, folder):
    spec = quorate.load_spec(folder / "spec.yaml")
    return open_doors(spec.model_dump(mode="json", exclude_defaults=True), folder=folder).http


def said(weight, rows=ROWS):
    first = np.array([1 / (1 + np.exp(-weight * row.astype(np.float64).sum())) for row in rows])
    return np.stack([first, 1 - first], axis=1)


EXPECTED = np.where([[length > 4] for length in LENGTHS], said(0.5), (said(0.5) + said(1)) / 2)


def check(answer: Result) -> None:
    np.testing.assert_allclose(answer.outputs["fused"], EXPECTED, atol=1e-6)
    assert answer.parameters["members_missing"] == "short:error"
    assert answer.parameters["rows_missing"] == "short:4"
    assert answer.parameters["coverage"] == 0.5
    assert answer.labels == [["up", "down"][int(row[0] < 0.5)] for row in EXPECTED]


def test_a_query_asks_about_each_length_and_is_one_answer(url):
    for rows in (pd.DataFrame({"steps": ROWS}), pl.DataFrame({"steps": [row.tolist() for row in ROWS]})):
        check(quorate.query("sequences", rows, url=url))
    with pytest.raises(RequestError, match="a request holds rows of one length, and these have several"):
        quorate.curl("sequences", pd.DataFrame({"steps": ROWS}), url=url)
    with quorate.Client(url, model="sequences") as client:
        for given in (ROWS, [row.tolist() for row in ROWS]):
            with pytest.raises(RequestError, match="a request has rows of one shape: stream them, or query a file"):
                client.infer({"steps": given})


def test_a_file_becomes_a_file_of_answers_in_its_order(url, tmp_path):
    pd.DataFrame({"steps": [row.tolist() for row in ROWS]}).to_parquet(tmp_path / "rows.parquet")
    done = quorate.query_file("sequences", tmp_path / "rows.parquet", tmp_path / "answers.parquet", url=url)
    assert (done.rows, done.degraded) == (len(ROWS), 1)
    found = parquet.read_table(tmp_path / "answers.parquet")
    np.testing.assert_allclose(found.column("fused").to_pylist(), EXPECTED, atol=1e-6)


SOURCES = {"rows": iter(ROWS), "lists": {"steps": ROWS}, "frame": pd.DataFrame({"steps": ROWS})}


@pytest.mark.parametrize("source", SOURCES)
def test_a_stream_sends_those_that_follow_each_other_together(url, source):
    with quorate.Client(url, model="sequences") as client:
        answers = list(client.stream(SOURCES[source]))
    assert [len(answer.outputs["fused"]) for answer in answers] == [1, 1, 2, 1, 1]
    np.testing.assert_allclose(np.concatenate([one.outputs["fused"] for one in answers]), EXPECTED, atol=1e-6)


def test_a_trial_is_one_answer_too(folder):
    check(quorate.try_spec(folder / "spec.yaml", pd.DataFrame({"steps": ROWS})))


def test_bench_sends_rows_of_one_length_in_a_request():
    uneven = np.empty(len(ROWS), dtype=object)
    uneven[:] = ROWS
    assert len(given_bodies({"steps": uneven}, rows=3)) == 6


def labelled(rows: int):
    steps = [RNG.normal(size=(int(length), 2)).astype(np.float32) for length in RNG.integers(1, 5, rows)]
    names = ["up" if RNG.random() < share else "down" for share in said(0.7, steps)[:, 0]]
    return steps, pd.DataFrame({"steps": steps, "label": names})


def test_tune_runs_each_row_with_those_of_its_length(folder, tmp_path):
    steps, table = labelled(120)
    tuned = quorate.tune(folder / "spec.yaml", table, runs=tmp_path)
    store = PredictionStore(tuned.folder / "predictions")
    found = np.concatenate([store.read_rows(split, ("long",), slice(0, 60))[0] for split in ("validation", "held-out")])
    order = np.lexsort(said(0.5, steps).T)
    np.testing.assert_allclose(found[np.lexsort(found.T)], said(0.5, steps)[order], atol=1e-3)  # kept as float16
    probe = load_probe(tuned.folder, tuned.spec)
    assert len(probe.inputs["steps"]) == len(probe.expected) > 1
    with pytest.raises(DataError, match="input 'steps': rows of several lengths, and training reads one; pad them"):
        quorate.tune(folder / "spec.yaml", table, train=table, runs=tmp_path)


def test_files_of_sounds_are_rows_of_samples_or_of_bytes_whatever_their_lengths(open_doors, tmp_path):
    code = "import numpy as np\n\ndef loud():\n    return lambda x: np.abs(x).mean(axis=1)\n"
    (tmp_path / "sound_of_any_length.py").write_text(code)
    sounds = [RNG.integers(-9000, 9000, size, np.int16) for size in (400, 300, 300)]
    (tmp_path / "sounds").mkdir()
    for number, sound in enumerate(sounds):
        buffer = io.BytesIO()
        wavfile.write(buffer, 8000, sound)
        (tmp_path / "sounds" / f"{number}.wav").write_bytes(buffer.getvalue())
    member = {"model": "sound_of_any_length:loud", "inputs": ["audio"], "output": "values"}
    spec = {"name": "loud", "inputs": {"audio": {"datatype": "FP32", "shape": [-1]}}, "members": {"m": member}}
    doors = open_doors({**spec, "fusion": {"rule": "mean"}}, folder=tmp_path)
    found = quorate.query("loud", tmp_path / "sounds", url=doors.http).outputs["fused"]
    np.testing.assert_allclose(found[:, 0], [np.abs(sound / 2**15).mean() for sound in sounds], atol=1e-6)
