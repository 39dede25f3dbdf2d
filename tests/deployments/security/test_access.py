"""Every endpoint of both doors, asked without a token, with a wrong one, with one for inference, one for management."""

import hashlib
import json

import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from quorate.deployments import Client, Credentials, Doors
from quorate.deployments.errors import RemoteError
from quorate.deployments.wire import open_inference_pb2 as pb

ASKS, MANAGES = "ask-" + "0123456789abcdef" * 2, "manage-" + "0123456789abcdef" * 2
LABELS = "label-" + "0123456789abcdef" * 2
TOKENS = {
    "none": "", "wrong": f"Bearer {ASKS[:-1]}", "ask": f"Bearer {ASKS}", "label": f"Bearer {LABELS}",
    "manage": f"Bearer {MANAGES}",
}  # fmt: skip
ROWS = np.array([[0.5, -1.0]], np.float32)
INFER = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.5, -1.0]}]})
SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]

# What must be open, and what only a management token opens; everything else is for those who may ask.
OPEN = {"GET /", "GET /v2/health/live", "GET /v2/health/ready", "GET /-/healthz"}
MANAGED = {
    "POST /v2/repository/models/r/load", "POST /v2/repository/models/r/unload",
    "GET /v2/logging", "POST /v2/logging", "GET /v2/trace/setting", "POST /v2/trace/setting",
    "GET /v2/models/r/trace/setting", "POST /v2/models/r/trace/setting",
    *(
        f"{call}" for kind in ("system", "cuda") for call in (
            f"GET /v2/{kind}sharedmemory/status", f"GET /v2/{kind}sharedmemory/region/r/status",
            f"POST /v2/{kind}sharedmemory/region/r/register", f"POST /v2/{kind}sharedmemory/unregister",
            f"POST /v2/{kind}sharedmemory/region/r/unregister",
        )
    ),
}  # fmt: skip
# What a feedback token opens beside.
FEEDBACK = {"POST /v2/models/pair/feedback", "POST /v2/models/pair/versions/1/feedback"}
FEEDBACK_RPCS = {"Give"}
OPEN_RPCS = {"ServerLive", "ServerReady", "Check"}
MANAGED_RPCS = {"RepositoryModelLoad", "RepositoryModelUnload", "TraceSetting", "LogSettings"} | {
    f"{kind}SharedMemory{verb}" for kind in ("System", "Cuda") for verb in ("Status", "Register", "Unregister")
}


def digests(*tokens):
    return tuple(hashlib.sha256(token.encode()).hexdigest() for token in tokens)


@pytest.fixture(scope="module")
def guarded(open_doors, pair_spec):
    tokens = {"ask_tokens": digests("x" * 40, ASKS), "management_tokens": digests(MANAGES)}
    return open_doors(pair_spec, Doors(**tokens, feedback_tokens=digests(LABELS)))


def every_http_call(url):
    document = httpx.get(f"{url}/openapi.json", headers={"authorization": TOKENS["ask"]}).json()
    for path, item in document["paths"].items():
        for method in sorted(set(item) & {"get", "post"}):
            filled = path.replace("{model}", "pair").replace("{version}", "1").replace("{name}", "r")
            yield f"{method.upper()} {filled}"


def expected(call, token, opened, managed):
    """HTTP's status for a refusal; 0 for a call that must pass."""
    if call in opened or token == "manage":
        return 0
    if token not in ("ask", "label"):
        return 401
    return 403 if call in managed or (token == "ask" and call in FEEDBACK | FEEDBACK_RPCS) else 0


def test_every_http_endpoint_opens_for_its_tokens_only(guarded):
    calls = list(every_http_call(guarded.http))
    assert set(calls) >= MANAGED | FEEDBACK
    assert len(calls) >= 35
    wrong = []
    with httpx.Client(base_url=guarded.http, timeout=20) as http:
        for call in calls:
            method, path = call.split()
            for token, shown in TOKENS.items():
                body = INFER if path.endswith("/infer") else None
                headers = {"authorization": shown} if shown else {}
                reply = http.request(method, path, content=body, headers=headers)
                refused = reply.status_code if reply.status_code in (401, 403) else 0
                if refused != expected(call, token, OPEN, MANAGED):
                    wrong.append(f"{call} with {token}: {reply.status_code}")
                if refused:
                    assert len(reply.json()["error"]) > 20
                assert reply.headers.get("www-authenticate") == ("Bearer" if refused == 401 else None)
    assert not wrong


@pytest.mark.parametrize("path", ["/nothing", "/v2/models/nobody", "/metrics", "/docs", "/openapi.json", "/v2"])
def test_without_a_token_nobody_learns_what_is_there(guarded, path):
    assert httpx.get(guarded.http + path).status_code == 401


def test_a_token_is_read_from_one_authorization_header_alone(guarded):
    url = f"{guarded.http}/v2"
    assert httpx.get(url, headers=[("authorization", TOKENS["ask"])] * 2).status_code == 401
    assert httpx.get(f"{url}?access_token={ASKS}").status_code == 401
    assert httpx.get(url, headers={"authorization": f"bearer   {ASKS}"}).status_code == 200
    assert httpx.get(url, auth=("user", ASKS)).status_code == 401


def rpc(channel, method, token, request=None):
    """Ask for an RPC by its path; the status it ends with."""
    metadata = [("authorization", token)] if token else []
    stub = channel.unary_unary(method, response_deserializer=bytes)
    call = stub.future(b"" if request is None else request.SerializeToString(), metadata=metadata, timeout=20)
    return call.code(), call.details()


def infer_request():
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=ROWS.shape)
    return pb.ModelInferRequest(model_name="pair", inputs=[tensor], raw_input_contents=[ROWS.tobytes()])


REFUSED = {401: grpc.StatusCode.UNAUTHENTICATED, 403: grpc.StatusCode.PERMISSION_DENIED}


def test_every_rpc_opens_for_its_tokens_only(guarded):
    wrong = []
    messages = {"ModelInfer": infer_request(), "ModelStreamInfer": infer_request()}
    methods = {m.name: f"/inference.GRPCInferenceService/{m.name}" for m in SERVICE.methods}
    methods |= {"Check": "/grpc.health.v1.Health/Check", "Give": "/quorate.Feedback/Give"}
    methods |= {"Reflect": "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"}
    messages["Reflect"] = reflection_pb2.ServerReflectionRequest(list_services="")
    messages["Check"] = health_pb2.HealthCheckRequest()
    with grpc.insecure_channel(guarded.grpc) as channel:
        for name, method in methods.items():
            for token, shown in TOKENS.items():
                code, details = rpc(channel, method, shown, messages.get(name))
                status = expected(name, token, OPEN_RPCS, MANAGED_RPCS)
                refused = code if code in REFUSED.values() else None
                if refused != REFUSED.get(status):
                    wrong.append(f"{name} with {token}: {code} {details}")
    assert len(methods) == 23
    assert not wrong


def test_health_can_be_watched_without_a_token(guarded):
    with grpc.insecure_channel(guarded.grpc) as channel:
        watch = channel.unary_stream(
            "/grpc.health.v1.Health/Watch", health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )  # fmt: skip
        stream = watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(stream).status == health_pb2.HealthCheckResponse.SERVING
        stream.cancel()


def test_the_client_shows_its_token(guarded):
    with Client(guarded.http, credentials=Credentials(ASKS)) as client:
        assert client.infer("pair", {"x": ROWS}).outputs["fused"].shape == (1, 3)
    with Client(guarded.http) as client, pytest.raises(RemoteError, match="401: no bearer token"):
        client.infer("pair", {"x": ROWS})


def test_without_management_tokens_nobody_manages_behind_a_token(open_doors, pair_spec):
    doors = open_doors(pair_spec, Doors(ask_tokens=digests(ASKS)))
    reply = httpx.post(f"{doors.http}/v2/repository/models/pair/load", headers={"authorization": TOKENS["ask"]})
    assert reply.status_code == 403
    assert "--management-token-file" in reply.json()["error"]
    with grpc.insecure_channel(doors.grpc) as channel:
        code, details = rpc(channel, "/inference.GRPCInferenceService/RepositoryModelLoad", TOKENS["ask"])
    assert code == grpc.StatusCode.PERMISSION_DENIED
    assert "--management-token-file" in details


def test_tokens_that_are_changed_open_the_doors_at_once_and_the_old_no_longer(open_doors, pair_spec):
    doors = open_doors(pair_spec, Doors(ask_tokens=digests(ASKS)))
    doors.keeper.change(Doors(ask_tokens=digests(MANAGES)))
    with grpc.insecure_channel(doors.grpc) as channel:
        for token, http, code in (("ask", 401, grpc.StatusCode.UNAUTHENTICATED), ("manage", 200, grpc.StatusCode.OK)):
            assert httpx.get(f"{doors.http}/v2", headers={"authorization": TOKENS[token]}).status_code == http
            method = "/inference.GRPCInferenceService/ServerMetadata"
            assert rpc(channel, method, TOKENS[token])[0] == code


def load_from(url, **headers):
    return httpx.post(f"{url}/v2/repository/models/nobody/load", headers=headers)


def test_a_web_page_cannot_manage_what_is_free_on_loopback(pair):
    free = load_from(pair.http).status_code
    assert free not in (401, 403)
    assert load_from(pair.http, origin="http://127.0.0.1:3000", host="localhost:80").status_code == free
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"host": "evil.example"},  # a name that its owner points at 127.0.0.1
        {"host": "evil.example:80", "origin": "http://evil.example:80"},
        {"host": "127.0.0.1.evil.example"},
    ):
        assert load_from(pair.http, **headers).status_code == 403
