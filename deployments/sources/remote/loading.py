"""A model of another server as a member: described and checked when it is loaded, then asked batch by batch."""

# B batch

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from quorate.deployments.errors import CredentialError
from quorate.deployments.security.credentials import Credentials
from quorate.deployments.sources.model import Model
from quorate.deployments.sources.outputs import OutputError, choose
from quorate.deployments.sources.remote.call_deadline import remaining_s
from quorate.deployments.sources.remote.server import (
    Description,
    RefusedError,
    RemoteTensor,
    Server,
    UnreachableError,
)
from quorate.deployments.sources.request import LoadRequest
from quorate.deployments.spec.model_address import ModelAddress, address_of
from quorate.deployments.wire.datatypes import datatype_of

Array = NDArray[Any]
DESCRIBE_TIMEOUT_S = 10.0
_FILES = ("token_file", "ca", "cert", "key")


def load(request: LoadRequest) -> Model:
    """Ask the server what the model reads and gives, and check that against the member.

    ``config``: files that prove who asks (``token_file``, ``ca``, ``cert``, ``key``).
    """
    address = address_of(request.spec.model)
    assert address is not None
    request.settings(dict.fromkeys(_FILES, str))
    server = _server(request, address)
    try:
        found = server.describe(DESCRIBE_TIMEOUT_S)
    except (RefusedError, UnreachableError) as error:
        fix = "start it, or correct the address"
        raise request.error(f"{request.spec.model} does not say what it is: {error}", fix) from None
    inputs = _inputs(request, found)
    output = _output(request, found)

    def ask(*arrays: Array) -> dict[str, Array]:
        given = {tensor.name: _fitted(tensor, arrays[place]) for place, tensor in inputs.items()}
        return {output: server.infer(given, output, remaining_s(request.spec.stall_timeout_s))}

    classes = next(tensor.classes for tensor in found.outputs if tensor.name == output)
    return request.model(ask, tensors=False, classes=classes or None)


def _server(request: LoadRequest, address: ModelAddress) -> Server:
    paths = {key: _absolute(request, key) for key in _FILES}
    try:
        credentials = Credentials.from_files(paths["token_file"], paths["ca"], paths["cert"], paths["key"])
        if address.scheme.startswith("http"):
            from quorate.deployments.sources.remote.http import HttpServer

            return HttpServer(address, credentials)
        from quorate.deployments.sources.remote.grpc import GrpcServer

        return GrpcServer(address, credentials)
    except (CredentialError, OSError) as error:
        raise request.error(f"config: {error}", "give files that this node has") from None


def _absolute(request: LoadRequest, key: str) -> Path | None:
    """A file of the node: secrets are no part of what is deployed, and neither copied nor digested."""
    value = request.spec.config.get(key)
    if value and not Path(value).is_absolute():
        raise request.error(f"config.{key} is {value}", "give the absolute path of a file that every node has")
    return Path(value) if value else None


def _inputs(request: LoadRequest, found: Description) -> dict[int, RemoteTensor]:
    """What the server calls the member's inputs, by their places; a single one may have any name."""
    wanted = request.preprocessing.names
    if len(wanted) == 1 and len(found.inputs) == 1 and not request.spec.input_names:
        return {0: found.inputs[0]}
    known = {tensor.name: tensor for tensor in found.inputs}
    if not set(known) <= set(wanted):
        lacks = f"the server's model reads {', '.join(known)}, and the member gives {', '.join(wanted)}"
        raise request.error(lacks, f"say which is which: inputs: {{{next(iter(known), 'THEIRS')}: {wanted[0]}, ...}}")
    return {place: known[name] for place, name in enumerate(wanted) if name in known}


def _output(request: LoadRequest, found: Description) -> str:
    """The output that is the member's."""
    try:
        return choose(
            {tensor.name: f"{list(tensor.shape)} {tensor.datatype}" for tensor in found.outputs}, request.spec
        )
    except OutputError as error:
        raise request.error(error.found, error.fix) from None


def _fitted(tensor: RemoteTensor, array: Array) -> Array:
    """A batch as the server's model reads it.

    Raises:
        ValueError: it reads another datatype, or rows of another shape.
    """
    if datatype_of(array) != tensor.datatype:
        found = f"'{tensor.name}' is {tensor.datatype} on the server, and the member is given {datatype_of(array)}"
        raise ValueError(f"{found}; give both the same")
    if array.ndim == 1 and tensor.shape[1:] == (1,):
        array = array.reshape(-1, 1)
    rows = tensor.shape[:1] in ((-1,), (len(array),))
    if not rows or not _fits(array.shape[1:], tensor.shape[1:]):
        found = f"'{tensor.name}' has shape {list(tensor.shape)} on the server, and the batch {list(array.shape)}"
        raise ValueError(f"{found}; of a fixed batch write max_batch_size: {max(tensor.shape[:1], default=1)}")
    return array


def _fits(row: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(row) == len(wanted) and all(b in (-1, a) for a, b in zip(row, wanted, strict=True))
