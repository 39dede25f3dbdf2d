"""``/openapi.json`` against the door it describes: every path is there, every answer is one of those described."""

from typing import Any

import httpx
import pytest


@pytest.fixture(scope="module")
def http(pair):
    with httpx.Client(base_url=pair.http, timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def document(http):
    return http.get("/openapi.json").json()


def resolve(document, schema):
    if "$ref" not in schema:
        return schema
    return document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]


def check(document, schema, value):
    """The part of JSON Schema that the document uses."""
    schema = resolve(document, schema)
    kinds: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "boolean": bool,
        "number": (int, float),
    }
    names = schema.get("type", [])
    names = [names] if isinstance(names, str) else names
    assert not names or any(isinstance(value, kinds[name]) for name in names), f"{value!r} is no {names}"
    assert value in schema.get("enum", [value])
    if isinstance(value, dict):
        assert set(schema.get("required", [])) <= set(value)
        for key, part in value.items():
            check(document, schema.get("properties", {}).get(key, schema.get("additionalProperties", {})), part)
    if isinstance(value, list):
        assert len(value) <= schema.get("maxItems", len(value))
        for part in value:
            check(document, schema.get("items", {}), part)


def fill(path):
    return path.replace("{model}", "pair").replace("{version}", "1").replace("{name}", "r")


def test_every_described_operation_answers_as_described(document, http):
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    asked = 0
    for path, item in document["paths"].items():
        for method in set(item) & {"get", "post"}:
            bodies = {
                "infer": {"inputs": [tensor], "parameters": {"explain": True}},
                "{model}:predict": {"instances": [[1, 2]], "parameters": {"explain": True}},
            }
            reply = http.request(method, fill(path), json=bodies.get(path.rpartition("/")[2]))
            described = item[method]["responses"]
            assert str(reply.status_code) in described, f"{method} {path} gave {reply.status_code}"
            content = described[str(reply.status_code)].get("content", {})
            if content.get("application/json"):
                check(document, content["application/json"]["schema"], reply.json())
            elif not content:
                assert reply.content == b""
            asked += 1
    assert asked > 30


def test_a_path_takes_no_other_method_than_those_described(document, http):
    for path, item in document["paths"].items():
        for method in {"get", "post", "put", "delete"} - set(item):
            assert http.request(method, fill(path)).status_code == 405, f"{method} {path}"


def test_the_models_described_are_those_served(document, http):
    described = document["paths"]["/v2/models/{model}"]["parameters"][0]["schema"]["enum"]
    assert described == [model["name"] for model in http.post("/v2/repository/index").json()]
