"""A request that is known but for its numbers is what the whole parser makes of it, or is left to that."""

import json
import random

import numpy as np
import pytest

from quorate.deployments.wire import known_json
from quorate.deployments.wire.inference import Body, InferResponse
from quorate.deployments.wire.json_tensors import BinaryOutputs, dump_response, parse_infer
from quorate.deployments.wire.known_json import KnownAnswers, KnownRequests


def parsed(body):
    return parse_infer(Body(memoryview(body), None), "m", "1")


def body_of(numbers, datatype="FP32", shape=(2, 2), **more):
    item = {"name": "x", "datatype": datatype, "shape": list(shape)}
    return json.dumps({**more, "inputs": [{**item, "data": "HERE"}]}).replace('"HERE"', numbers).encode()


def learned(body):
    known: KnownRequests[None] = KnownRequests()
    request, binary = parsed(body)
    known.learn(body, request, binary, None)
    return known


def read(known, body):
    found = known.find(body)
    return None if found is None else found[0].read(found[1])


def assert_alike(request, other):
    ((name, array),), ((expected_name, expected),) = request.inputs.items(), other.inputs.items()
    assert (name, array.dtype, array.shape) == (expected_name, expected.dtype, expected.shape)
    assert array.tobytes() == expected.tobytes()
    assert (request.model, request.version, request.id) == (other.model, other.version, other.id)
    assert (request.outputs, request.parameters) == (other.outputs, other.parameters)
    assert request.classification == other.classification


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_any_numbers_are_the_same_bits_as_the_whole_parser_reads(datatype):
    chance = random.Random(0)
    known = learned(body_of("[1, 2.5, 3, 4]", datatype, parameters={"priority": 1}))
    for _ in range(300):
        values = [chance.uniform(-1, 1) * 10.0 ** chance.randint(-46, 37) for _ in range(3)] + [chance.randint(-9, 9)]
        body = body_of(f"[{', '.join(map(repr, values))}]", datatype, parameters={"priority": 1})
        assert_alike(read(known, body), parsed(body)[0])


@pytest.mark.parametrize(
    "numbers", ["[1,2,3,4]", "[ 1E3 , -0, 2e-3,\n5 ]", "[-0.0,1e-60,0,0]", "[123456789012345678901,1,1,1]"]
)
def test_numbers_may_be_written_in_any_way(numbers):
    known, body = learned(body_of("[1, 2, 3, 4]")), body_of(numbers)
    assert_alike(read(known, body), parsed(body)[0])


@pytest.mark.parametrize(
    "numbers",
    [
        "[1, 2, 3]", "[1, 2, 3, 4, 5]", "[1, 2, 3, true]", "[1, 2, 3, null]", '[1, 2, 3, "4"]', "[[1, 2], [3, 4]]",
        "[1, 2, 3, 1e39]", "[1, 2, 3, {}]", "[1, 2, 3, 1e999]", "[1, 2, 3, NaN]", "[1, 2,, 3]", "[", "[]",
    ],
)  # fmt: skip
def test_what_is_no_list_of_so_many_numbers_in_range_is_left_alone(numbers):
    assert read(learned(body_of("[1, 2, 3, 4]")), body_of(numbers)) is None


def test_one_letter_that_differs_around_the_numbers_is_another_request():
    known, body = learned(body_of("[1, 2, 3, 4]")), body_of("[1, 2, 3, 4]")
    at = body.index(b"[1")
    for place in (*range(at), *range(at + len("[1, 2, 3, 4]"), len(body))):
        other = body[:place] + b"~" + body[place + 1 :]
        assert read(known, other) is None


ITEM = '{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [7.25]}'


@pytest.mark.parametrize(
    "body",
    [
        f'{{"id": "seven", "inputs": [{ITEM}]}}',
        f'{{"inputs": [{ITEM}, {ITEM.replace("x", "y")}]}}',
        ITEM.join(('{"inputs": [', "]}")).replace("[7.25]", "[[7.25]]"),
        ITEM.join(('{"inputs": [', "]}")).replace('"data"', '"data": [7.25], "data"'),
        ITEM.join(('{"inputs": [', "]}")).replace('"x"', '"data"'),
        ITEM.join(('{"inputs": [', "]}")).replace("FP32", "INT32").replace("7.25", "7"),
        ITEM.join(('{"inputs": [', '], "outputs": [{"name": "fused", "parameters": {"classification": 1}}]}')),
    ],
    ids=["id", "two inputs", "nested", "twice", "called data", "whole numbers", "classes"],
)
def test_what_has_more_that_may_be_new_is_not_learned(body):
    known = learned(body.encode())
    assert read(known, body.encode()) is None
    assert read(known, body.replace("7.25", "3.5").encode()) is None


def test_a_text_that_looks_like_the_numbers_is_none():
    body = ITEM.join(('{"parameters": {"a": "\\"data\\": [7.25] [\\"data\\"]"}, "inputs": [', "]}")).encode()
    known = learned(body)
    for other in (body, body.replace(b"[7.25]", b"[3.5]"), body.replace(b"[7.25]", b"[3.5]", 1)):
        found = read(known, other)
        assert found is None or found.inputs["x"].tobytes() == parsed(other)[0].inputs["x"].tobytes()


def test_no_more_are_kept_than_may_be(monkeypatch):
    monkeypatch.setattr(known_json, "MAX_KNOWN", 4)
    known: KnownRequests[None] = KnownRequests()
    answers = KnownAnswers()
    for number in range(20):
        body = body_of("[1, 2, 3, 4]", parameters={"deadline_ms": number + 1})
        request, binary = parsed(body)
        known.learn(body, request, binary, None)
        assert read(known, body) is not None
        answers.learn(number, b'{"data":[1.0]}', np.ones((1, 1), np.float32))
    assert len(known._known) <= 4
    assert len(answers._known) <= 4


def test_an_answer_is_the_same_text_as_without_the_one_before():
    answers, rng = KnownAnswers(), np.random.default_rng(0)
    for number in range(50):
        values = (rng.standard_normal((2, 3)) * 10.0 ** rng.integers(-30, 30)).astype(np.float32)
        response = InferResponse("m", {"fused": values}, parameters={"revision": "r", "coverage": 1.0})
        text, _ = dump_response(response, BinaryOutputs())
        written = answers.write("key", values)
        assert (written is None) == (number == 0)
        assert written in (None, text)
        answers.learn("key", text, values)
    assert answers.write("other", values) is None


@pytest.mark.parametrize("ids", [("one", "two"), ('"', "\\u00e9"), ("m", "n"), ("data", "r")])
def test_a_text_that_changes_stands_where_it_stood(ids):
    values = np.ones((1, 2), np.float32)
    texts = [
        dump_response(InferResponse("m", {"fused": values * n}, name, {"revision": "r"}), BinaryOutputs())[0]
        for n, name in enumerate(ids)
    ]
    answers = KnownAnswers()
    answers.learn("key", texts[0], values * 0, ids[0])
    assert answers.write("key", values, ids[1]) in (texts[1], None)
    if ids[0] == "one":
        assert answers.write("key", values, ids[1]) == texts[1]
