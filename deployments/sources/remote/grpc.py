"""The Open Inference Protocol over gRPC."""

# B batch

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
from numpy.typing import NDArray

from quorate.deployments.errors import RequestError
from quorate.deployments.security.credentials import Credentials
from quorate.deployments.sources.remote.server import (
    Description,
    DownError,
    RefusedError,
    RemoteTensor,
    UnreachableError,
)
from quorate.deployments.spec.model_address import ModelAddress
from quorate.deployments.telemetry.current import trace_headers
from quorate.deployments.wire import open_inference_pb2 as pb
from quorate.deployments.wire.binary_tensors import decode, encode
from quorate.deployments.wire.class_names import read_classes
from quorate.deployments.wire.datatypes import datatype_of
from quorate.deployments.wire.grpc_tensors import parse_contents

Array = NDArray[Any]
_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
# About the rows, or what the server made of them; any other is about the way to it.
_OF_ROWS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN,
            grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.FAILED_PRECONDITION)  # fmt: skip
_DOWN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class GrpcServer:
    """A model behind gRPC, which itself sends again what has never left this machine, and nothing else."""

    def __init__(self, address: ModelAddress, credentials: Credentials):
        self._address = address
        self._metadata = tuple(credentials.headers.items())
        self._channel = _channel(address, credentials)
        self._infer = self._method("ModelInfer", pb.ModelInferRequest, pb.ModelInferResponse)
        self._describe = self._method("ModelMetadata", pb.ModelMetadataRequest, pb.ModelMetadataResponse)

    def describe(self, timeout_s: float) -> Description:
        message = pb.ModelMetadataRequest(name=self._address.model, version=self._address.version)
        found = self._ask(self._describe, message, timeout_s)
        return Description(_tensors(found.inputs), _tensors(found.outputs))

    def infer(self, inputs: Mapping[str, Array], output: str | None, timeout_s: float) -> dict[str, Array]:
        message = pb.ModelInferRequest(model_name=self._address.model, model_version=self._address.version)
        if output is not None:
            message.outputs.add(name=output)
        for name, array in inputs.items():
            message.inputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
            message.raw_input_contents.append(bytes(encode(array)))
        reply = self._ask(self._infer, message, timeout_s)
        try:
            return _outputs(reply, output)
        except (KeyError, ValueError, IndexError, RequestError) as error:
            raise RefusedError(f"its answer cannot be read: {type(error).__name__}: {error}") from None

    def _method(self, name: str, request: Any, response: Any) -> Callable[..., Any]:
        method: Callable[..., Any] = self._channel.unary_unary(
            f"/inference.GRPCInferenceService/{name}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        return method

    def _ask(self, method: Callable[..., Any], message: Any, timeout_s: float) -> Any:
        if timeout_s <= 0:
            raise UnreachableError("nobody waits for the answer any more")
        try:
            return method(message, timeout=timeout_s, metadata=(*self._metadata, *trace_headers().items()))
        except grpc.RpcError as error:
            kind = RefusedError if error.code() in _OF_ROWS else UnreachableError
            kind = DownError if error.code() in _DOWN else kind
            found = f"{self._address.place} answered {error.code().name}: {str(error.details())[:300]}"
            raise kind(found) from None


def _channel(address: ModelAddress, credentials: Credentials) -> Any:
    if address.scheme == "grpc":
        return grpc.insecure_channel(address.place, _OPTIONS)
    ca, key, cert = (Path(file).read_bytes() if file else None for file in _files(credentials))
    return grpc.secure_channel(address.place, grpc.ssl_channel_credentials(ca, key, cert), _OPTIONS)


def _files(credentials: Credentials) -> tuple[str, str, str]:
    """CA, private key and certificate, which may hold the key."""
    return credentials.ca, credentials.key or credentials.cert, credentials.cert


def _tensors(found: Any) -> tuple[RemoteTensor, ...]:
    return tuple(map(_tensor, found))


def _tensor(found: Any) -> RemoteTensor:
    classes = read_classes(found.parameters["classes"].string_param) if "classes" in found.parameters else ()
    return RemoteTensor(found.name, found.datatype, tuple(found.shape), classes)


def _outputs(reply: pb.ModelInferResponse, name: str | None) -> dict[str, Array]:
    raw, found = reply.raw_output_contents, {}
    for place, tensor in enumerate(reply.outputs):
        if name in (None, tensor.name):
            shape, own = tuple(tensor.shape), tensor.name
            found[own] = (
                decode(raw[place], tensor.datatype, shape)
                if raw
                else parse_contents(own, tensor.datatype, shape, tensor.contents)
            )
    if not found:
        raise ValueError(f"it has no output {name or ''}".rstrip())
    return found
