"""A model of another server as a member: described and checked when it is loaded, then asked batch by batch."""

# B batch

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from quorate.deployments.errors import CredentialError, MemberLoadError
from quorate.deployments.security.credentials import Credentials
from quorate.deployments.sources.model import Model
from quorate.deployments.sources.outputs import OutputError, choose
from quorate.deployments.sources.remote.call_deadline import remaining_s
from quorate.deployments.sources.remote.server import (
    Description,
    DownError,
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
# A server that is down is asked what it is no more often than this.
AGAIN_S = 1.0
# Batches that one replica has under way: beyond them rows wait, and travel together.
AT_ONCE = 8
_log = logging.getLogger(__name__)
_FILES = ("token_file", "ca", "cert", "key")


def load(request: LoadRequest) -> Model:
    """Ask the server what the model reads and gives, and check that against the member.

    A server that is down is asked again with the batches that come. ``config``: files that prove who asks
    (``token_file``, ``ca``, ``cert``, ``key``).
    """
    address = address_of(request.spec.model)
    assert address is not None
    request.settings(dict.fromkeys(_FILES, str))
    remote = _RemoteModel(request, _server(request, address))
    model = remote.model = request.model(remote.ask, tensors=False)
    model.at_once = AT_ONCE
    try:
        remote.describe(DESCRIBE_TIMEOUT_S)
    except DownError as error:
        _log.warning("members.%s: %s; asked again with the next batch", request.name, error)
    return model


@dataclass(frozen=True)
class _Terms:
    """What the server says of the model: what each of the member's inputs is there, by place, and the output.

    Where it says nothing, the spec's own names are its, and the output is chosen when there are some.
    """

    inputs: Mapping[int, RemoteTensor]
    output: str | None


class _RemoteModel:
    """A model of a server, which is described once, as soon as it can be."""

    model: Model

    def __init__(self, request: LoadRequest, server: Server):
        self._request, self._server = request, server
        self._lock, self._again_at, self._last = threading.Lock(), 0.0, ""
        self._terms: _Terms | None = None

    def describe(self, timeout_s: float) -> _Terms:
        """What the server says, checked.

        Raises:
            DownError: it is down, or was a moment ago.
            MemberLoadError: there is no such model, or it is another one than the spec says.
        """
        with self._lock:
            if self._terms is not None:
                return self._terms
            if time.monotonic() < self._again_at:
                raise DownError(self._last)
            try:
                found = self._server.describe(timeout_s)
            except DownError as error:
                self._again_at, self._last = time.monotonic() + AGAIN_S, str(error)
                raise
            except (RefusedError, UnreachableError) as error:
                what = f"{self._request.spec.model} does not say what it is: {error}"
                raise self._request.error(what, "correct the address, or load the model there") from None
            self._terms = _Terms(_inputs(self._request, found), _output(self._request, found))
            named = (tensor.classes for tensor in found.outputs if tensor.name == self._terms.output)
            self.model.classes = next(named, ()) or None
            return self._terms

    def ask(self, *arrays: Array) -> dict[str, Array]:
        """The outputs for a batch, by name."""
        left_s = remaining_s(self._request.spec.stall_timeout_s)
        try:
            terms = self._terms or self.describe(min(left_s, DESCRIBE_TIMEOUT_S))
        except MemberLoadError as error:  # no row of the batch would fare better alone
            raise UnreachableError(f"{error.found}; {error.fix}") from None
        given = {tensor.name: _fitted(tensor, arrays[place]) for place, tensor in terms.inputs.items()}
        left_s = remaining_s(self._request.spec.stall_timeout_s)
        return self._server.infer(given, terms.output, left_s)


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
    if not found.inputs:
        return {place: RemoteTensor(name, "", ()) for place, name in enumerate(wanted)}
    if len(wanted) == 1 and len(found.inputs) == 1 and not request.spec.input_names:
        return {0: found.inputs[0]}
    known = {tensor.name: tensor for tensor in found.inputs}
    if not set(known) <= set(wanted):
        lacks = f"the server's model reads {', '.join(known)}, and the member gives {', '.join(wanted)}"
        raise request.error(lacks, f"say which is which: inputs: {{{next(iter(known), 'THEIRS')}: {wanted[0]}, ...}}")
    return {place: known[name] for place, name in enumerate(wanted) if name in known}


def _output(request: LoadRequest, found: Description) -> str | None:
    """The output that is the member's; None where only an answer tells which there are."""
    if not found.outputs:
        return request.spec.output_name
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
    if not tensor.datatype:
        return array
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
