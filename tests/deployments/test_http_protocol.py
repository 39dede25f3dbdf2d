import asyncio
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from quorate.deployments.http_protocol import JoinedHttpProtocol

HEAD_AND_BODY = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


class Wire(asyncio.Transport):
    """Remembers what is sent, one entry a system call."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.sent.append(data)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


def talk(*requests):
    async def run():
        config = uvicorn.Config(app, interface="asgi3", lifespan="off", server_header=False, date_header=False)
        config.load()
        protocol, wire = JoinedHttpProtocol(config, ServerState(), {}), Wire()
        protocol.connection_made(wire)
        for request in requests:
            protocol.data_received(request)
            await asyncio.sleep(0.01)
        closed, wire.closed = wire.closed, True
        protocol.connection_lost(None)
        return wire.sent, closed

    return asyncio.run(run())


def test_head_and_body_of_an_answer_leave_in_one_write():
    assert talk(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") == ([HEAD_AND_BODY], False)


def test_pipelined_requests_are_answered_in_order_and_whole():
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    sent, _ = talk(request * 3)
    assert b"".join(sent) == HEAD_AND_BODY * 3


def test_an_answer_that_ends_the_connection_is_sent_before_it_closes():
    sent, closed = talk(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert b"".join(sent).endswith(b"\r\n\r\nhello")
    assert closed
