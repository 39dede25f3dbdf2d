"""The HTTP door described in OpenAPI 3.1, for the models that it serves."""

from __future__ import annotations

from typing import Any, get_args

from quorate.deployments.server.http.access import OPEN_PATHS, SERVE_HEALTH
from quorate.deployments.server.http.json_lines import CONTENT_TYPE as LINES
from quorate.deployments.server.service import Service
from quorate.deployments.telemetry.settings import LogFormat
from quorate.deployments.wire.arrow_stream import CONTENT_TYPE
from quorate.deployments.wire.datatypes import CODES
from quorate.deployments.wire.feedback import VERDICTS
from quorate.deployments.wire.inference import VERSION

Schema = dict[str, Any]

# By what the client accepts; exemplars come in the second.
_METRICS: dict[str, Any] = {"text/plain": {}, "application/openmetrics-text": {}}
_FLAG: Schema = {"type": ["boolean", "null"]}


def openapi(service: Service, guarded: bool = False) -> dict[str, Any]:
    """The document that ``/openapi.json`` gives.

    Args:
        guarded: calls want a bearer token.
    """
    document = _document(service)
    if guarded:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, item in document["paths"].items():
            for operation in (item[method] for method in ("get", "post") if method in item and path not in OPEN_PATHS):
                operation["security"] = [{"token": []}]
                operation["responses"] = {**operation["responses"], **_errors(401, 403)}
    return document


def _document(service: Service) -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Quorate",
            "version": str(service.server_metadata()["version"]),
            "description": "An ensemble and its members as models of the Open Inference Protocol.",
        },
        "paths": {**_server_paths(), **_model_paths(service), **_kserve_v1_paths(service), **_paths_that_are_off()},
        "components": {"schemas": _schemas(service)},
    }


def _server_paths() -> dict[str, Any]:
    ready = {"503": {"description": "Too few members take calls"}}
    return {
        "/v2": _get("Name and version of the server", _ref("Server")),
        "/v2/health/live": _get("Whether the server runs", None),
        "/v2/health/ready": _get("Whether a quorum of members takes calls", None, ready),
        SERVE_HEALTH: {
            "get": {
                "summary": "The same for KubeRay's probes, in the words of Ray Serve's proxy",
                "responses": {"200": {"description": "success", "content": {"text/plain": {}}}, **ready},
            }
        },
        "/v2/models/stats": _get("Statistics of every model", _ref("Statistics")),
        "/v2/repository/index": {
            "post": {
                "summary": "Every model and its state",
                "requestBody": _json_body({"type": "object", "properties": {"ready": _FLAG}}, False),
                "responses": {**_ok({"type": "array", "items": _ref("ModelState")}), **_errors(400)},
            }
        },
        "/v2/online": _get("What weights that learn have come to; empty where none do", _ref("Online")),
        "/metrics": {
            "get": {
                "summary": "Counts and times for Prometheus",
                "responses": {"200": {"description": "Text format 0.0.4", "content": _METRICS}},
            }
        },
        "/openapi.json": _get("This document", {"type": "object"}),
        "/docs": _page("This document as a page"),
        "/": _page("What is served, for people"),
    }


def _model_paths(service: Service) -> dict[str, Any]:
    model = {"name": "model", "in": "path", "required": True, "schema": {"enum": service.models}}
    version = {"name": "version", "in": "path", "required": True, "schema": {"enum": [VERSION]}}
    paths: dict[str, Any] = {}
    for prefix, parameters in (
        ("/v2/models/{model}", [model]),
        ("/v2/models/{model}/versions/{version}", [model, version]),
    ):
        not_ready = {"400": {"description": "The model is unknown, or no replica of it takes calls"}}
        found = {
            "": _get("A model's inputs and outputs", _ref("Model"), _errors(404)),
            "/ready": _get("Whether a model takes calls", None, not_ready),
            "/config": _get("A model's configuration", _ref("Config"), _errors(404)),
            "/stats": _get("A model's statistics", _ref("Statistics"), _errors(404)),
            "/infer": {"post": _infer()},
            "/feedback": {"post": _feedback()},
        }
        paths |= {f"{prefix}{end}": {"parameters": parameters, **item} for end, item in found.items()}
    return paths


def _kserve_v1_paths(service: Service) -> dict[str, Any]:
    model = {"name": "model", "in": "path", "required": True, "schema": {"enum": service.models}}
    predict = {
        "summary": "Ask a model by KServe's first protocol",
        "requestBody": _json_body(_ref("PredictRequest"), True),
        "responses": {**_ok(_ref("PredictResponse")), **_errors(400, 404, 413, 503, 504)},
    }
    ready = _object(name={"type": "string"}, ready={"type": "boolean"})
    return {
        "/v1/models": _get("Names of the models", _object(models=_list({"type": "string"}))),
        "/v1/models/{model}": {"parameters": [model], **_get("Whether a model takes calls", ready, _errors(404))},
        "/v1/models/{model}:predict": {"parameters": [model], "post": predict},
    }


def _infer() -> dict[str, Any]:
    header_length = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "description": "Bytes of JSON before the binary tensors; 0 where all of the body is the model's one input",
        "schema": {"type": "integer", "minimum": 0},
    }
    body = _json_body(_ref("InferRequest"), True)
    answers = _ok(_ref("InferResponse"))
    # Lines are requests and answers each, or {"error": ..., "status": ...}.
    for media_type in ("application/octet-stream", CONTENT_TYPE, LINES.decode()):
        body["content"][media_type] = {}
        answers["200"]["content"][media_type] = {}
    return {
        "summary": "Ask a model",
        "parameters": [header_length],
        "requestBody": body,
        "responses": {**answers, **_errors(400, 404, 413, 503, 504)},
    }


def _feedback() -> dict[str, Any]:
    body = _json_body({"oneOf": [_ref("Label"), _object(labels={**_list(_ref("Label")), "minItems": 1})]}, True)
    body["content"][CONTENT_TYPE] = {}
    return {
        "summary": "Say what was true of rows that were answered",
        "requestBody": body,
        "responses": {**_ok(_ref("Feedback")), **_errors(400, 404, 413, 501, 503)},
    }


def _label_schemas() -> dict[str, Schema]:
    text, whole = {"type": "string"}, {"type": "integer", "minimum": 0}
    one = {"type": ["string", "number"]}
    label = _object(id={**text, "description": "The answer's parameter answer_id"}, label={"anyOf": [one, _list(one)]})
    label["properties"] |= {"row": whole, "output": text}
    refused = _object(index=whole, id=text, verdict={"enum": list(VERDICTS)}, why=text)
    return {"Label": label, "Feedback": _object(**dict.fromkeys(VERDICTS, whole), refused=_list(refused))}


def _online_schemas() -> dict[str, Schema]:
    """Nothing is required: it is empty where nothing learns."""
    text, whole, flag, number = ({"type": name} for name in ("string", "integer", "boolean", "number"))
    weights = _list(number)
    point = _object(labels=whole, time_us=whole, weights=weights)
    rival = _object(name=text, total=number, regret=number, bound=number)
    standing = _object(**point["properties"], total=number, stale=number, rivals=_list(rival))
    output = _object(output=text, members=_list(text), loss=text, labels=whole, weights=_list(point))
    output["properties"] |= {"standings": _list(standing), "live_weights": {**weights, "type": ["array", "null"]}}
    means = dict.fromkeys(("accuracy", "asked", "everyone", "learned", "learned_asks"), number)
    interval = {**_list(number), "type": ["array", "null"]}
    through = _list(_object(labels=whole, time_us=whole, **means))
    policy = _object(**means, max_loss=number, confidence=number, explore=number, price=number, members=whole)
    policy["properties"] |= {"gain": interval, "loss": interval, "points": through, "asks_all": flag}
    output["properties"] |= {"policy": {**policy, "description": "Of a bandit, which learns whom to ask"}}
    columns = {"answered_as": {"type": "object"}, "labelled_as": {"type": "object"}}
    called = _object(**{"class": text}, **columns, since_us={"type": ["integer", "null"]}, labels=whole)
    output["properties"] |= {"relabelled": _list(called)}
    change = _object(revision=text, time_us=whole, taken_back=flag, gains={"type": "object"})
    online = _object(mode={"enum": ["shadow", "live"]}, publish_every=text, revision=text, labels=whole, waits=flag)
    online["properties"] |= {"published": whole, "rolled_back": whole, "left_out_rows": whole}
    online["properties"] |= {"outputs": _list(output), "told": _list(change)}
    return {"Online": {**online, "required": []}}


def _paths_that_are_off() -> dict[str, Any]:
    """What stock clients call and this server refuses with a sentence, or answers as empty."""
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[^/]+$"}}
    paths: dict[str, Any] = {}
    for path, what, schema in (
        ("/v2/trace/setting", "Which requests are traced", "TraceSettings"),
        ("/v2/models/{name}/trace/setting", "Which requests to a model are traced", "TraceSettings"),
        ("/v2/logging", "What is logged, and how", "LogSettings"),
    ):
        answers = {**_ok(_ref(schema)), **_errors(400, 404, 501, 503)}
        changed = {"requestBody": _json_body(_ref(schema), False), "responses": answers}
        paths[path] = {"get": {"summary": what, "responses": answers}, "post": {"summary": f"{what}, set", **changed}}
    paths["/v2/repository/models/{name}/unload"] = {"post": {"summary": "Not allowed", "responses": _errors(400, 503)}}
    paths["/v2/repository/models/{name}/load"] = {
        "post": {
            "summary": "Publish another fusion of the ensemble",
            "requestBody": _json_body(_ref("LoadRequest"), False),
            "responses": {**_ok(None), **_errors(400, 404, 501, 503)},
        }
    }
    for kind, refused in (("system", 501), ("cuda", 400)):
        prefix = f"/v2/{kind}sharedmemory"
        nothing = {"type": "array", "maxItems": 0}
        done = {**_ok(None), **_errors(400)}
        paths[f"{prefix}/status"] = _get("Registered regions: none", nothing)
        paths[f"{prefix}/region/{{name}}/status"] = {"get": {"summary": "Never found", "responses": _errors(404)}}
        paths[f"{prefix}/region/{{name}}/register"] = {
            "post": {"summary": "Not supported", "responses": _errors(400, refused)}
        }
        for path in (f"{prefix}/unregister", f"{prefix}/region/{{name}}/unregister"):
            paths[path] = {"post": {"summary": "Nothing to unregister", "responses": done}}
    for path, item in paths.items():
        if "{name}" in path:
            item["parameters"] = [name]
    return paths


def _telemetry_schemas() -> dict[str, Schema]:
    """Settings as they are told; of those that are set, each may be left out."""
    one_or_more = {"type": ["string", "array", "null"], "items": {"type": "string"}}
    traces = dict.fromkeys(("trace_level", "trace_rate", "trace_count"), one_or_more)
    logs: dict[str, Any] = dict.fromkeys(("log_info", "log_warning", "log_error"), _FLAG)
    logs["log_verbose_level"] = {"type": ["integer", "null"], "minimum": 0}
    logs["log_format"] = {"enum": [*get_args(LogFormat), None]}
    return {
        "TraceSettings": {"type": "object", "properties": traces},
        "LogSettings": {"type": "object", "properties": logs},
    }


def _schemas(service: Service) -> dict[str, Schema]:
    text, whole = {"type": "string"}, {"type": "integer"}
    shape = {"type": "array", "items": whole, "maxItems": 32}
    # A field that is null is one that is left out.
    scalar = {"type": ["string", "number", "boolean", "null"]}
    parameters = {"type": ["object", "null"], "additionalProperties": scalar}
    datatype = {"enum": list(CODES)}
    described = _object(name=text, datatype=datatype, shape=shape)
    described["properties"] |= {"parameters": parameters}
    sized = _object(name=text, data_type=text, dims=shape)
    duration = _object(count=whole, ns=whole)
    state = _object(name=text, version=text, state={"enum": ["READY", "UNAVAILABLE"]})
    state["properties"]["reason"] = {"type": "string", "description": "Why it is not ready"}
    config = {"type": "string", "description": 'JSON such as {"fusion": {"weights": {...}}}: what is to go live'}
    load = {"type": "object", "properties": {"config": config}}
    kinds = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")
    tensor = _object(name=text, datatype=datatype, shape=shape)
    tensor["properties"] |= {"data": {"type": "array"}, "parameters": parameters}
    output = {"type": "object", "required": ["name"], "properties": {"name": text, "parameters": parameters}}
    request = _object(inputs={**_list(tensor), "minItems": 1})
    outputs = {**_list(output), "type": ["array", "null"]}
    request["properties"] |= {"id": {"type": ["string", "null"]}, "parameters": parameters, "outputs": outputs}
    response = _object(model_name={"enum": service.models}, model_version=text, outputs=_list(tensor))
    response["properties"] |= {"id": text, "parameters": parameters}
    predict = _object(instances={"type": "array", "minItems": 1})
    predict["properties"]["parameters"] = parameters
    predicted = _object(predictions={"type": "array"})
    predicted["properties"] |= {"classes": _list(text), "parameters": parameters}
    statistics = _object(
        name=text,
        version=text,
        last_inference=whole,
        inference_count=whole,
        execution_count=whole,
        inference_stats=_object(**dict.fromkeys(kinds, duration)),
    )
    return {
        **_telemetry_schemas(),
        **_label_schemas(),
        **_online_schemas(),
        "Error": _object(error=text),
        "Server": _object(
            name=text, version=text, extensions=_list(text), doors=_object(http=_list(text), grpc=_list(text))
        ),
        "Model": _object(
            name=text, versions=_list(text), platform=text, inputs=_list(described), outputs=_list(described)
        ),
        "Config": _object(
            name=text, platform=text, backend=text, max_batch_size=whole, input=_list(sized), output=_list(sized)
        ),
        "Statistics": _object(model_stats=_list(statistics)),
        "ModelState": state,
        "LoadRequest": {"type": "object", "properties": {"parameters": load}},
        "InferRequest": request,
        "InferResponse": response,
        "PredictRequest": predict,
        "PredictResponse": predicted,
    }


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "required": list(properties), "properties": properties}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _get(summary: str, schema: Schema | None, more: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"get": {"summary": summary, "responses": {**_ok(schema), **(more or {})}}}


def _page(summary: str) -> dict[str, Any]:
    page = {"200": {"description": "A page", "content": {"text/html": {}}}}
    return {"get": {"summary": summary, "responses": page}}


def _ok(schema: Schema | None) -> dict[str, Any]:
    if schema is None:
        return {"200": {"description": "Yes"}}
    return {"200": {"description": "The answer", "content": {"application/json": {"schema": schema}}}}


def _errors(*statuses: int) -> dict[str, Any]:
    content = {"application/json": {"schema": _ref("Error")}}
    return {str(status): {"description": "What is wrong and what to do", "content": content} for status in statuses}


def _json_body(schema: Schema, required: bool) -> dict[str, Any]:
    return {"required": required, "content": {"application/json": {"schema": schema}}}
