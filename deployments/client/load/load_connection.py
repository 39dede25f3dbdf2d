"""A connection of the load test: raw HTTP/1.1, so that the clients leave the cores to the server."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools

from quorate.deployments.security.credentials import Credentials


@dataclass(frozen=True)
class LoadTarget:
    """A server, and the requests as they go to it.

    Attributes:
        context: for TLS; None for none.
        requests: heads and bodies.
    """

    host: str
    port: int
    context: ssl.SSLContext | None
    requests: Sequence[bytes]


# JSON, or JSON with tensors' bytes behind it and its length.
LoadBody = bytes | tuple[bytes, int]


def load_target(url: str, path: str, bodies: Sequence[LoadBody], shown: Credentials) -> LoadTarget:
    """The server at a URL, and bodies as requests to a path of it."""
    parts = urlsplit(url)
    context = shown.context() if parts.scheme == "https" else None
    head = f"POST {parts.path.rstrip('/')}{path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in shown.headers.items())
    requests = [_request(head, body) for body in bodies]
    return LoadTarget(parts.hostname or "", parts.port or (80 if context is None else 443), context, requests)


def _request(head: str, body: LoadBody) -> bytes:
    data, kind = body, "Content-Type: application/json\r\n"
    if isinstance(data, tuple):
        data, length = data
        kind = f"Content-Type: application/octet-stream\r\nInference-Header-Content-Length: {length}\r\n"
    return f"{head}{kind}Content-Length: {len(data)}\r\n\r\n".encode() + data


class LoadConnection(asyncio.Protocol):
    """One HTTP/1.1 connection with one request under way at most, one of those that fit its server.

    ``on_done`` gets each request's status and body; status 0 when the connection was lost under it. ``on_lost`` is
    called when it was lost with none under way.

    Attributes:
        scheduled: when the request that is under way was due (``time.perf_counter``), and when it was ``sent``.
        busy: one is under way.
    """

    def __init__(
        self,
        requests: Sequence[bytes],
        on_done: Callable[[LoadConnection, int, bytes], None],
        on_lost: Callable[[LoadConnection], None],
    ):
        self.requests, self._on_done, self._on_lost = requests, on_done, on_lost
        self._transport: asyncio.Transport | None = None
        self._body: list[bytes] = []
        self.scheduled = 0.0
        self.sent = 0.0
        self.busy = False
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.open = cast(asyncio.Transport, transport), True
        self._parser = httptools.HttpResponseParser(self)

    def send(self, request: bytes, scheduled: float) -> None:
        assert self._transport is not None
        self.scheduled, self.sent, self.busy = scheduled, time.perf_counter(), True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body, self._body = b"".join(self._body), []
        if not self._parser.should_keep_alive():
            self.close()
        self._done(self._parser.get_status_code(), body)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self.busy:
            self._done(0, str(exc or "the connection was closed").encode())
        else:
            self._on_lost(self)

    def close(self) -> None:
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    def _done(self, status: int, body: bytes) -> None:
        self.busy = False
        self._on_done(self, status, body)
