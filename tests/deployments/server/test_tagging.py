"""Token classes, tags and spans, over every wire, for rows of any number of tokens."""

import json
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import numpy as np
import pyarrow as pa
import pytest

from quorate.deployments import Client
from quorate.deployments.client.load.load_test import Load, bench
from quorate.deployments.errors import RequestError
from quorate.deployments.wire import open_inference_pb2 as pb
from quorate.fusion import decode, tag_scheme
from tests.deployments.support.factories.tagger import CLASSES, probabilities

pytestmark = pytest.mark.long

SCHEME = tag_scheme(CLASSES)
WEIGHTS = {"a": 0.5, "b": 0.3, "c": 0.2}
SEEDS = {"a": 1, "b": 2, "c": 3}


def member(seed, **rest):
    return {
        "model": "tagger:known", "config": {"seed": seed}, "inputs": ["x"], "output": "probabilities", **rest
    }  # fmt: skip


def spec_of(name, **rest):
    return {
        "name": name,
        "task": "tagging",
        "inputs": {"x": {"datatype": "FP32", "shape": [-1, 3]}},
        "classes": CLASSES,
        # b knows the classes in another order
        "members": {
            "a": member(1),
            "b": member(2, config={"seed": 2, "order": [1, 0, 2, 4, 3]}, classes=[CLASSES[c] for c in (1, 0, 2, 4, 3)]),
            "c": member(3),
        },
        "fusion": {"rule": "weighted_mean", "weights": WEIGHTS, "deadline_s": 5.0},
        **rest,
    }


@pytest.fixture(scope="module")
def tagger(open_doors):
    return open_doors(spec_of("tagger"))


@pytest.fixture(scope="module")
def padded(open_doors):
    inputs = {"x": {"datatype": "FP32", "shape": [-1, 3]}, "n": {"datatype": "INT32", "shape": [1]}}
    members = {name: member(seed, model="tagger:masked", inputs=["x", "n"]) for name, seed in SEEDS.items()}
    members["c"] = member(3)
    return open_doors(spec_of("padded", inputs=inputs, lengths="n", members=members))


def rows(count, tokens, seed=0):
    return np.random.default_rng(seed).normal(size=(count, tokens, 3)).astype(np.float32)


def mean(x, names="abc"):
    weights = [WEIGHTS[name] for name in names]
    return np.average([probabilities(x, SEEDS[name]) for name in names], axis=0, weights=weights)


def names_of(tags):
    return [[CLASSES[tag] for tag in row if tag >= 0] for row in tags]


def test_each_token_has_the_fused_probabilities_and_a_tag_that_its_scheme_allows(tagger):
    with Client(tagger.http, model="tagger") as client:
        for tokens in (1, 4, 9):
            x = rows(6, tokens)
            result = client.infer(x=x)
            np.testing.assert_allclose(result.outputs["fused"], mean(x), atol=1e-6)
            assert result.tags == names_of(decode(mean(x), None, SCHEME))
            assert result.parameters["coverage"] == 1


def test_spans_are_those_of_the_tags(tagger):
    x = rows(40, 7)
    with Client(tagger.http, model="tagger") as client:
        result = client.infer(x=x)
    assert result.tags is not None
    assert result.spans is not None
    assert sum(map(len, result.spans)) > 40
    for fused, tags, spans in zip(result.outputs["fused"], result.tags, result.spans, strict=True):
        told = ["O"] * 7
        for span in spans:
            told[span["start"] : span["end"]] = ["I-" + span["class"]] * (span["end"] - span["start"])
            told[span["start"]] = "B-" + span["class"]
            said = [fused[t][CLASSES.index(tags[t])] for t in range(span["start"], span["end"])]
            assert span["score"] == pytest.approx(min(said), abs=1e-5)
        assert told == tags


def test_a_request_may_ask_for_some_outputs_alone(tagger):
    x = rows(2, 3)
    body = {"inputs": [{"name": "x", "shape": [2, 3, 3], "datatype": "FP32", "data": x.ravel().tolist()}]}
    url = f"{tagger.http}/v2/models/tagger/infer"
    reply = httpx.post(url, json={**body, "outputs": [{"name": "spans"}]}).json()
    assert [(one["name"], one["shape"]) for one in reply["outputs"]] == [("spans", [2])]
    assert all(isinstance(json.loads(row), list) for row in reply["outputs"][0]["data"])
    reply = httpx.post(url, json={**body, "outputs": [{"name": "fused"}]}).json()
    assert [one["name"] for one in reply["outputs"]] == ["fused"]
    reply = httpx.post(url, json={**body, "outputs": [{"name": "odd"}]})
    assert (reply.status_code, "it gives fused, tags, spans" in reply.json()["error"]) == (400, True)


def test_metadata_says_what_is_given(tagger):
    found = httpx.get(f"{tagger.http}/v2/models/tagger").json()
    assert json.loads(found["outputs"][0]["parameters"].pop("classes"))[1:3] == ["B-person", "I-person"]
    assert found["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, -1, 3]}]
    assert found["outputs"] == [
        {"name": "fused", "datatype": "FP32", "shape": [-1, -1, 5], "parameters": {}},
        {"name": "tags", "datatype": "BYTES", "shape": [-1, -1]},
        {"name": "spans", "datatype": "BYTES", "shape": [-1]},
    ]
    assert httpx.get(f"{tagger.http}/v2/models/a").json()["outputs"][0]["shape"] == [-1, -1, 5]
    config = httpx.get(f"{tagger.http}/v2/models/tagger/config").json()
    assert config["parameters"]["task"]["string_value"] == "tagging"


def test_grpc_gives_the_same(tagger):
    x = rows(3, 5, seed=2)
    request = pb.ModelInferRequest(model_name="tagger")
    request.inputs.add(name="x", datatype="FP32", shape=x.shape)
    request.raw_input_contents.append(x.tobytes())
    path = "/inference.GRPCInferenceService/ModelInfer"
    messages = pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
    with grpc.insecure_channel(tagger.grpc) as channel:
        reply = channel.unary_unary(path, *messages)(request, timeout=30)
    shapes = {one.name: list(one.shape) for one in reply.outputs}
    assert shapes == {"fused": [3, 5, 5], "tags": [3, 5], "spans": [3]}
    fused = np.frombuffer(reply.raw_output_contents[0], np.float32).reshape(3, 5, 5)
    np.testing.assert_allclose(fused, mean(x), atol=1e-6)
    assert b"".join(tag.encode() for row in names_of(decode(fused, None, SCHEME)) for tag in row) == (
        reply.raw_output_contents[1].translate(None, bytes(range(32)))
    )


def test_a_stream_has_a_column_for_each_output(tagger):
    x = rows(50, 4, seed=3)
    table = pa.table({"x": pa.FixedShapeTensorArray.from_numpy_ndarray(x)})
    with Client(tagger.http, model="tagger") as client:
        batches = [answer.batch for answer in client.infer_arrow(table)]
    assert batches[0].schema.names == ["fused", "tags", "spans"]
    tags = [[tag.decode() for tag in row] for batch in batches for row in batch.column("tags").to_pylist()]
    assert tags == names_of(decode(mean(x), None, SCHEME))


def test_requests_of_other_lengths_at_the_same_time_get_their_own_answers(tagger):
    def ask(number):
        x = rows(1 + number % 3, 1 + number % 5, seed=number)
        with Client(tagger.http, model="tagger") as client:
            found = client.infer(x=x)
        np.testing.assert_allclose(found.outputs["fused"], mean(x), atol=1e-6)
        return found.parameters["degraded"]

    with ThreadPoolExecutor(16) as pool:
        assert not any(pool.map(ask, range(120)))


def test_a_member_that_fails_on_a_row_or_says_nan_at_one_token_is_missing_from_that_row(open_doors):
    members = spec_of("shaky")["members"]
    members["a"] = {**members["a"], "model": "tagger:known"}
    doors = open_doors(spec_of("shaky", members={**members, "b": member(2, model="tagger:steady")}))
    x = rows(4, 3)
    x[1, 0, 0], x[3, 0, 0] = 13, 14
    with Client(doors.http, model="shaky") as client:
        result = client.infer(x=x)
    np.testing.assert_allclose(result.outputs["fused"][[0, 2]], mean(x[[0, 2]]), atol=1e-6)
    np.testing.assert_allclose(result.outputs["fused"][[1, 3]], mean(x[[1, 3]], "b"), atol=1e-6)
    assert result.parameters["members_missing"] == "a:error,c:error"
    assert result.parameters["rows_missing"] == "a:1 3,c:1 3"
    assert result.parameters["coverage"] == pytest.approx(0.3)


def test_rows_with_padding_are_answered_as_if_they_came_alone(padded):
    x, lengths = rows(5, 6), np.array([[6], [2], [0], [1], [4]], np.int32)
    with Client(padded.http, model="padded") as client:
        result = client.infer(x=x, n=lengths)
        alone = [client.infer(x=x[r : r + 1, :n], n=lengths[r : r + 1], members="a,b") for r, (n,) in enumerate(lengths)
                 if n]  # fmt: skip
        pair = client.infer(x=x, n=lengths, members="a,b")
    for row, (length,) in enumerate(lengths):
        fused = result.outputs["fused"][row]
        assert not fused[length:].any()
        said = [probabilities(x[row : row + 1, :length], s)[0] for s in (1, 2)] if length else [np.zeros((0, 5))] * 2
        said.append(probabilities(x[row : row + 1], 3)[0, :length])  # c reads no lengths, and so the padding
        np.testing.assert_allclose(fused[:length], np.average(said, axis=0, weights=[0.5, 0.3, 0.2]), atol=1e-6)
    assert [len(tags) for tags in result.tags or ()] == [6, 2, 0, 1, 4]
    assert result.tags == names_of(decode(result.outputs["fused"], lengths, SCHEME))
    assert result.parameters["members_missing"] == ""
    assert result.parameters["coverage"] == 1
    assert [row for row in pair.tags or () if row] == [row for one in alone for row in one.tags or ()]
    assert [row for row in pair.spans or () if row] == [row for one in alone for row in one.spans or () if row]


def test_lengths_that_cannot_be_are_refused(padded, tagger):
    with Client(padded.http, model="padded") as client:
        for wrong in (-1, 4):
            with pytest.raises(RequestError, match=f"'n' is {wrong} in row 1, but rows of 'x' have 3 tokens"):
                client.infer(x=rows(2, 3), n=np.array([[3], [wrong]], np.int32))
    with Client(tagger.http, model="tagger") as client, pytest.raises(RequestError, match="no tokens"):
        client.infer(x=rows(2, 0))


def test_a_member_that_cuts_text_into_other_tokens_is_of_another_shape(open_doors):
    members = {**spec_of("cut")["members"], "c": member(3, config={"seed": 3, "extra": 1}, inputs=["x"])}
    with pytest.raises(Exception, match="has 5 classes for each of 1 tokens"):  # found when it is warmed up
        open_doors(spec_of("cut", members=members))


def test_tokens_go_through_a_graph(open_doors):
    members = {
        "trunk": member(0, model="tagger:twice", config={}, output="features"),
        "a": member(1, model="tagger:steady", inputs=["x"]),
        "b": member(2, model="tagger:steady", inputs=["trunk"]),
    }
    doors = open_doors(spec_of("graph", members=members, fusion={"rule": "mean", "members": ["a", "b"]}))
    x = rows(4, 5, seed=6)
    with Client(doors.http, model="graph") as client:
        result = client.infer(x=x)
    np.testing.assert_allclose(
        result.outputs["fused"], (probabilities(x, 1) + probabilities(2 * x, 2)) / 2, atol=1e-6
    )  # fmt: skip
    assert result.parameters["members_used"] == "a,b,trunk"


def test_spans_may_be_voted_on(open_doors):
    fusion = {"rule": "span_vote", "weights": WEIGHTS, "options": {"threshold": 0.5}, "deadline_s": 5.0}
    doors = open_doors(spec_of("voting", fusion=fusion))
    x = rows(30, 6, seed=5)
    with Client(doors.http, model="voting") as client:
        result = client.infer(x=x)
    said = {name: decode(probabilities(x, seed), None, SCHEME) for name, seed in SEEDS.items()}
    spans = result.spans
    assert spans is not None
    assert SCHEME is not None
    for row in range(30):
        votes: dict[tuple[int, int, str], float] = {}
        for name, tags in said.items():
            found = SCHEME.spans(tags[row], np.arange(6) == 0)
            for start, end, kind in zip(*found, strict=True):
                key = (int(start), int(end), SCHEME.kinds[kind])
                votes[key] = votes.get(key, 0) + WEIGHTS[name]
        told = {(one["start"], one["end"], one["class"]): one["score"] for one in spans[row]}
        assert set(told) <= set(votes)
        for key, score in told.items():
            assert score == pytest.approx(votes[key], abs=1e-5)
            assert score >= 0.5 - 1e-6
        for key, share in votes.items():  # what lost overlaps what won
            if share > 0.5 + 1e-6 and key not in told:
                assert any(key[0] < b and a < key[1] and told[a, b, c] >= share - 1e-6 for a, b, c in told)


def test_a_load_test_sends_lengths_that_can_be(padded):
    found = bench(padded.http, "padded", Load(clients=2, duration_s=0.3, warm_up_s=0, rows=4))
    assert (found.errors, found.first_error) == (0, "")


def test_classes_of_tokens_that_say_no_spans_have_tags_alone(open_doors):
    words = ["noun", "verb", "other", "x", "y"]
    members = {name: member(seed) for name, seed in SEEDS.items()}
    doors = open_doors({**spec_of("words", members=members), "task": "tokens", "classes": words})
    x = rows(3, 4)
    with Client(doors.http, model="words") as client:
        result = client.infer(x=x, explain=True)
    assert result.tags == [[words[tag] for tag in row] for row in mean(x).argmax(axis=2)]
    assert result.spans is None
    np.testing.assert_allclose(result.outputs["a.output"], probabilities(x, 1), atol=1e-6)
    np.testing.assert_allclose(result.outputs["a.contribution"], [0.5] * 3, atol=1e-6)
    assert "noun" in str(result) or "verb" in str(result) or "other" in str(result)
