"""What asks a running ensemble of several outputs: query, query --output, curl, bench, and try without any server."""

import json
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

import quorate
from quorate.cluster.cli.main import app
from quorate.deployments import parse_spec, save_spec
from quorate.deployments.errors import RequestError
from tests.deployments.support.member_threads import FACTORIES

ROWS = np.random.default_rng(4).normal(size=(9, 2)).astype(np.float32)
# A deployment names its revision with the digests of its code, and every answer has another name.
OWN = ("revision", "answer_id")


def member(factory, output, **config):
    return {"model": factory, "config": config, "inputs": ["x"], "output": output}


SPEC: dict[str, Any] = {
    "name": "talk",
    "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
    "members": {
        "a": member("known:known", "probabilities", shift=1), "b": member("known:known", "probabilities", shift=-2),
        "sums": member("several:columns", "values", columns=[1]),
    },
    "fusions": {
        "mood": {"rule": "mean", "members": ["a", "b"], "classes": ["sad", "meh", "glad"]},
        "price": {"rule": "mean", "members": ["sums"]},
    },
    "outputs": ["mood", "price"],
}  # fmt: skip


@pytest.fixture(scope="module")
def talk(open_doors):
    return open_doors(SPEC)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("talk") / "rows.npy"
    np.save(path, ROWS)
    return path


def test_a_query_gives_all_outputs_or_those_that_are_named(talk, file):
    answer = quorate.query("talk", file, url=talk.http)
    assert list(answer.outputs) == ["mood", "price"]
    np.testing.assert_allclose(answer.outputs["price"], ROWS[:, 1:], rtol=1e-6)
    named = quorate.query("talk", file, url=talk.http, outputs=["price"], explain=True)
    assert list(named["price"].outputs) == ["price", "sums.output", "sums.contribution"]
    with pytest.raises(RequestError, match="unexpected inference output 'fused'"):
        quorate.query("talk", file, url=talk.http, outputs=["fused"])


def test_the_command_prints_a_table_of_each_output(talk, file):
    done = CliRunner().invoke(app, ["query", "talk", "--input", str(file), "--url", talk.http])
    assert done.exit_code == 0
    assert [word in done.output for word in ("mood", "price", "meh")] == [True] * 3
    words = ["query", "talk", "--input", str(file), "--url", talk.http, "--outputs", "price", "--json"]
    assert list(json.loads(CliRunner().invoke(app, words).output)["outputs"]) == ["price"]


def test_a_line_of_curl_names_them(talk, file):
    line = quorate.curl("talk", file, url=talk.http, outputs=["price"])
    body = line[line.index("{") : line.rindex("}") + 1]
    reply = httpx.post(f"{talk.http}/v2/models/talk/infer", content=body).json()
    assert [one["name"] for one in reply["outputs"]] == ["price"]


def test_a_file_of_answers_has_a_column_for_each(talk, tmp_path):
    parquet.write_table(pa.table({"x": pa.FixedSizeListArray.from_arrays(ROWS.ravel(), 2)}), tmp_path / "rows.parquet")
    quorate.query_file("talk", tmp_path / "rows.parquet", tmp_path / "all.parquet", url=talk.http)
    found = parquet.read_table(tmp_path / "all.parquet")
    assert found.column_names == ["mood", "price", "revision", "members_missing"]
    np.testing.assert_allclose(found["price"].combine_chunks().flatten().to_numpy(), ROWS[:, 1], rtol=1e-6)
    quorate.query_file("talk", tmp_path / "rows.parquet", tmp_path / "one.parquet", url=talk.http, outputs=["mood"])
    assert parquet.read_table(tmp_path / "one.parquet").column_names == ["mood", "revision", "members_missing"]


def test_bench_loads_all_of_them(talk, file):
    found = quorate.bench("talk", url=talk.http, clients=2, duration_s=0.3, inputs=file)
    assert found.requests > 0
    assert (found.errors, found.degraded) == (0, 0)


@pytest.mark.parametrize("outputs", [[], ["price"]])
def test_a_trial_in_this_process_is_the_answer_of_a_server(talk, file, tmp_path, outputs):
    served = quorate.query("talk", file, url=talk.http, outputs=outputs)
    tried = quorate.try_spec(parse_spec(SPEC), file, folder=FACTORIES, outputs=outputs)
    assert list(tried.outputs) == list(served.outputs)
    for name in served.outputs:
        np.testing.assert_array_equal(tried.outputs[name], served.outputs[name])
        said = {key: value for key, value in served[name].parameters.items() if key not in OWN}
        assert {key: value for key, value in tried[name].parameters.items() if key not in OWN} == said
    revisions = {tried.parameters["revision"], *(said["revision"] for said in tried.output_parameters.values())}
    assert len(revisions) == 1


def test_a_trial_says_who_is_too_slow_for_the_answer_that_waits_for_it(tmp_path):
    fusions = {**SPEC["fusions"], "price": {**SPEC["fusions"]["price"], "deadline_s": 1e-9}}
    save_spec(parse_spec({**SPEC, "fusions": fusions}), tmp_path / "spec.yaml")
    for file in ("known.py", "several.py"):
        (tmp_path / file).write_text((FACTORIES / file).read_text())
    tried = quorate.try_spec(tmp_path / "spec.yaml", {"x": ROWS})
    assert "over the deadline of 1e-09 s" in repr(tried)
    assert (tried.members["a"].deadline_s, tried.members["sums"].deadline_s, tried.deadline_s) == (1.0, 1e-9, 1.0)
