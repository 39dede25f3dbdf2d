"""What is posted to every system, and what peers' hand-written doors read and write: the Open Inference Protocol.

JSON, or its binary extension: a JSON head, its length in a header of HTTP, and behind it the numbers as they lie in
memory. Over gRPC the numbers are in ``raw_input_contents``.
"""

# B batch, F features, C classes

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

Rows = NDArray[np.float32]
MODEL = "mlps"
INFER = f"/v2/models/{MODEL}/infer"
GRPC_INFER = "/inference.GRPCInferenceService/ModelInfer"
HEAD_LENGTH = "inference-header-content-length"


def json_body(rows: Rows) -> bytes:
    """A request of (B, F)."""
    return orjson.dumps({"inputs": [{**_described("x", rows), "data": rows.ravel().tolist()}]})


def binary_body(rows: Rows) -> tuple[bytes, int]:
    """The same in the binary extension, and the length of its head; the answer is wanted in it, too."""
    tensor = {**_described("x", rows), "parameters": {"binary_data_size": rows.nbytes}}
    head = orjson.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    return head + rows.tobytes(), len(head)


def read_body(body: bytes, head_length: int | None) -> Rows:
    """(B, F) of a request whose head is so long; without a length all of it is JSON."""
    tensor = orjson.loads(body if head_length is None else memoryview(body)[:head_length])["inputs"][0]
    if head_length is None:
        return np.array(tensor["data"], np.float32).reshape(tensor["shape"])
    return np.frombuffer(body, np.float32, offset=head_length).reshape(tensor["shape"])


def write_answer(values: Rows, binary: bool) -> tuple[bytes, dict[str, str]]:
    """The body that answers (B, C), and its headers."""
    described = _described("fused", values)
    if not binary:
        body = orjson.dumps(_answer({**described, "data": values.ravel().tolist()}))
        return body, {"content-type": "application/json"}
    head = orjson.dumps(_answer({**described, "parameters": {"binary_data_size": values.nbytes}}))
    return head + values.tobytes(), {"content-type": "application/octet-stream", HEAD_LENGTH: str(len(head))}


def read_answer(body: bytes, headers: Mapping[str, str]) -> Rows:
    """(B, C) of an answer."""
    length = {name.lower(): value for name, value in headers.items()}.get(HEAD_LENGTH)
    head = orjson.loads(body if length is None else body[: int(length)])
    tensor = next(found for found in head["outputs"] if found["name"] == "fused")
    if "data" in tensor:
        return np.array(tensor["data"], np.float32).reshape(tensor["shape"])
    assert len(head["outputs"]) == 1
    return np.frombuffer(body, np.float32, offset=int(length or 0)).reshape(tensor["shape"])


def grpc_message(rows: Rows) -> bytes:
    """A ``ModelInferRequest`` of (B, F), as it goes over the wire."""
    from quorate.deployments.wire import open_inference_pb2 as pb

    message = pb.ModelInferRequest(model_name=MODEL)
    message.inputs.add(name="x", datatype="FP32", shape=rows.shape)
    message.raw_input_contents.append(rows.tobytes())
    found: bytes = message.SerializeToString()
    return found


def _described(name: str, rows: Rows) -> dict[str, Any]:
    return {"name": name, "datatype": "FP32", "shape": list(rows.shape)}


def _answer(tensor: dict[str, Any]) -> dict[str, Any]:
    return {"model_name": MODEL, "model_version": "1", "outputs": [tensor]}
