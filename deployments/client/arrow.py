"""The client's half of an Arrow stream: rows go out while answers come in, so that neither side has to hold them.

HTTP clients send a whole body before they read; a server that answers as it reads would then wait for them, and they
for it.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import h11
import orjson
import pyarrow as pa

from quorate.deployments.client.dead_peers import SOCKET_OPTIONS
from quorate.deployments.client.failover import DoorList, Failure, Tries
from quorate.deployments.client.remote_errors import Told, error_text, refusal, remote_error, told_by
from quorate.deployments.errors import RequestError, UnavailableError
from quorate.deployments.security.credentials import Credentials
from quorate.deployments.wire.arrow_stream import CONTENT_TYPE, ERROR, OUTPUT_PARAMETERS, OUTPUTS, PARAMETERS, Sink

# A record batch as it is sent: small enough that the first answers come soon.
SENT_ROWS, SENT_BYTES = 4096, 16 << 20
_READ_BYTES = 1 << 18
# What has been sent is kept until the first answer, for another door, as long as it is no more than this.
KEPT_BYTES = 64 << 20
Source = Any  # pa.Table, pa.RecordBatch, pa.RecordBatchReader, or record batches one by one


@dataclass(frozen=True)
class ArrowResult:
    """Answers to rows that follow each other, and what the server says about them (revision, members_used, ...).

    Attributes:
        output_parameters: the same of each of several outputs.
    """

    batch: pa.RecordBatch
    parameters: Mapping[str, Any]
    output_parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def infer_stream(
    doors: DoorList,
    path: str,
    credentials: Credentials,
    timeout_s: float,
    data: Source,
    parameters: Mapping[str, Any],
    outputs: Sequence[str] = (),
) -> Generator[ArrowResult, None, None]:
    """Send record batches and give the answers as they come, in the rows' order.

    Raises:
        RequestError: the data are no Arrow data, or their record batches differ in columns or types.
        RemoteError: the server refused, at once or midway.
        UnavailableError: no door answers, or the answer broke off.
    """
    sent = _Sent(_encoded(*_batches(data), parameters, outputs))
    exchange = _first_answer(doors, path, credentials, timeout_s, sent)
    sent.forget()
    try:
        yield from _answers(exchange)
    except (OSError, h11.RemoteProtocolError, pa.ArrowInvalid) as error:
        if error is sent.fault:
            raise
        raise UnavailableError(
            f"the answer of {exchange.url} broke off ({error}); send the rows without an answer again"
        ) from None
    finally:
        exchange.close()


def _first_answer(doors: DoorList, path: str, credentials: Credentials, timeout_s: float, sent: _Sent) -> _Exchange:
    """The exchange with the first door that answers rows, before any of its answer is read."""
    now = time.monotonic()
    tries = Tries(doors, now + timeout_s, now + timeout_s)
    refused: tuple[int, bytes, Told] | None = None
    while (door := tries.next(now)) is not None:
        exchange = _Exchange(door.url, path, credentials, timeout_s, sent.chunks())
        try:
            exchange.connect(tries.connect_timeout_s(now))
            reply = exchange.response()
            body = b"" if reply.status_code == 200 else exchange.read()
        except (OSError, h11.RemoteProtocolError) as error:
            exchange.close()
            if error is sent.fault:
                raise
            tries.repeatable, now = sent.whole, time.monotonic()
            tries.failed(exchange.failure(error), str(error) or type(error).__name__, now)
            continue
        except BaseException:
            exchange.close()
            raise
        if reply.status_code == 200:
            tries.answered()
            return exchange
        exchange.close()
        headers = {name.decode(): value.decode("latin-1") for name, value in reply.headers}
        told = told_by(headers)
        if reply.status_code != 503:
            tries.answered()
            raise refusal(reply.status_code, body, told)
        refused = reply.status_code, body, told
        tries.repeatable, now = sent.whole, time.monotonic()
        rest_s = float(told.retry_after) if told.retry_after.isdigit() else 0.0
        tries.failed(Failure.REFUSED, f"503: {error_text(body)}", now, rest_s)
    if refused is None:
        raise tries.error()
    status, body, told = refused
    raise refusal(status, body, told, tries.asked)


class _Sent:
    """What goes out, kept so that another door can be sent it from its beginning.

    Attributes:
        whole: nothing of it had to be let go.
        fault: what the caller's own data raised.
    """

    whole = True
    fault: OSError | None = None

    def __init__(self, chunks: Iterator[bytes]):
        self._chunks = chunks
        self._kept: list[bytes] | None = []
        self._kept_bytes = 0

    def chunks(self) -> Iterator[bytes]:
        """All of it from its beginning."""
        yield from list(self._kept or ())
        while (chunk := self._drawn()) is not None:
            yield chunk

    def forget(self) -> None:
        """Keep no more of it."""
        self._kept = None

    def _drawn(self) -> bytes | None:
        try:
            chunk = next(self._chunks, None)
        except OSError as fault:
            self.fault = fault
            raise
        if chunk is not None and self._kept is not None:
            self._kept.append(chunk)
            self._kept_bytes += len(chunk)
            if self._kept_bytes > KEPT_BYTES:
                self.whole = False
                self.forget()
        return chunk


def _answers(exchange: _Exchange) -> Iterator[ArrowResult]:
    with pa.ipc.open_stream(exchange) as stream:
        while True:
            try:
                found = stream.read_next_batch_with_custom_metadata()
            except StopIteration:
                return
            metadata = dict(found.custom_metadata or {})
            if ERROR in metadata:
                refused = orjson.loads(metadata[ERROR])
                raise remote_error(refused["status"], refused["error"], Told(kind=refused.get("kind", "")))
            said = [orjson.loads(metadata.get(key, b"{}")) for key in (PARAMETERS, OUTPUT_PARAMETERS)]
            yield ArrowResult(found.batch, *said)


def _batches(data: Source) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    if isinstance(data, pa.Table):
        return data.schema, iter(data.to_batches())
    if isinstance(data, pa.RecordBatch):
        return data.schema, iter([data])
    if isinstance(data, pa.RecordBatchReader):
        return data.schema, iter(data)
    batches: Iterator[Any] = iter(data if isinstance(data, Iterable) else ())
    first = next(batches, None)
    if not isinstance(first, pa.RecordBatch):
        raise RequestError(f"{type(data).__name__} holds no Arrow record batches; give a table, a reader or batches")

    def all_of() -> Iterator[pa.RecordBatch]:
        yield first
        yield from batches

    return first.schema, all_of()


def _encoded(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], parameters: Mapping[str, Any], outputs: Sequence[str]
) -> Iterator[bytes]:
    """The stream's bytes, about a record batch at a time."""
    extra = {PARAMETERS: orjson.dumps(dict(parameters))} if parameters else {}
    extra |= {OUTPUTS: orjson.dumps(list(outputs))} if outputs else {}
    schema = schema.with_metadata({**(schema.metadata or {}), **extra})
    sink = Sink()
    writer = pa.ipc.new_stream(pa.PythonFile(sink, "w"), schema)
    for batch in batches:
        step = max(1, min(SENT_ROWS, SENT_BYTES * batch.num_rows // max(batch.nbytes, 1)))
        for at in range(0, batch.num_rows, step):
            try:
                writer.write_batch(batch.slice(at, step).replace_schema_metadata(schema.metadata))
            except pa.ArrowInvalid as error:
                raise RequestError(f"record batches differ ({error}); give all the same columns and types") from None
            yield sink.take()
    writer.close()
    yield sink.take()


class _Exchange:
    """One request and its response at the same time, over one connection; to pyarrow a file."""

    closed = connected = False

    def __init__(self, url: str, path: str, credentials: Credentials, timeout_s: float, chunks: Iterator[bytes]):
        self.url, self._credentials, self._timeout_s, self._chunks = url, credentials, timeout_s, chunks
        self._wire = h11.Connection(h11.CLIENT)
        self._received = bytearray()
        self._response: h11.Response | None = None
        self._complete = False
        address = urlsplit(url)
        path = address.path.rstrip("/") + path
        headers = {
            "host": address.netloc, "content-type": CONTENT_TYPE, "transfer-encoding": "chunked",
            "connection": "close", **credentials.headers,
        }  # fmt: skip
        request = h11.Request(method="POST", target=path, headers=list(headers.items()))
        self._to_send = memoryview(self._wire.send(request) or b"")
        self._selector = selectors.DefaultSelector()

    def connect(self, timeout_s: float) -> None:
        """Connect; nothing has been drawn from the chunks before.

        Raises:
            OSError: no connection came about.
        """
        address = urlsplit(self.url)
        tls, host = address.scheme == "https", address.hostname or ""
        context = self._credentials.context() if tls else None
        plain = socket.create_connection((host, address.port or (443 if tls else 80)), timeout_s)
        try:
            for option in (*SOCKET_OPTIONS, (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)):
                plain.setsockopt(*option)
            found = plain if context is None else context.wrap_socket(plain, server_hostname=host)
        except OSError:
            plain.close()
            raise
        found.setblocking(False)
        self._selector.register(found, selectors.EVENT_READ | selectors.EVENT_WRITE)
        self._socket, self.connected = found, True

    def failure(self, error: Exception) -> Failure:
        """What an error before the first answer says about the door."""
        if not self.connected:
            return Failure.UNREACHED
        return Failure.LATE if isinstance(error, TimeoutError) else Failure.LOST

    def response(self) -> h11.Response:
        """Status and headers."""
        while self._response is None:
            self._turn()
        return self._response

    def read(self, size: int = -1) -> bytes:
        """Bytes of the body; fewer than asked for only at its end."""
        while not self._complete and (size < 0 or len(self._received) < size):
            self._turn()
        size = len(self._received) if size < 0 else size
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._selector.close()
            if self.connected:
                self._socket.close()

    def _turn(self) -> None:
        """Wait until something can be sent or has come, and do it."""
        self._refill()
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._to_send else 0)
        self._selector.modify(self._socket, wanted)
        pending = isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()
        events = self._selector.select(0 if pending else self._timeout_s)
        if not events and not pending:
            raise TimeoutError(f"nothing moved for {self._timeout_s:g} s")
        if self._to_send and any(mask & selectors.EVENT_WRITE for _, mask in events):
            self._send()
        if pending or any(mask & selectors.EVENT_READ for _, mask in events):
            self._receive()

    def _refill(self) -> None:
        if self._to_send or self._wire.our_state is not h11.SEND_BODY:
            return
        chunk = next(self._chunks, None)
        event = h11.EndOfMessage() if chunk is None else h11.Data(data=chunk)
        self._to_send = memoryview(self._wire.send(event) or b"")

    def _send(self) -> None:
        try:
            self._to_send = self._to_send[self._socket.send(self._to_send[:_READ_BYTES]) :]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:  # the server takes no more; its answer says why
            self._wire.send_failed()
            self._to_send = memoryview(b"")

    def _receive(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        self._wire.receive_data(data)
        while (event := self._wire.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Response):
                self._response = event
            elif isinstance(event, h11.Data):
                self._received += event.data
            elif isinstance(event, h11.EndOfMessage):
                self._complete = True
                return
