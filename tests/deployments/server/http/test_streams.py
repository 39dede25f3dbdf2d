"""Answers that are streamed: whatever ends one, what it held is given back at once, whoever still refers to it."""

import asyncio

import pytest

from quorate.deployments.server.http.streams import begin, send_stream


class Chunks:
    """Three chunks; ``closed`` once they are."""

    def __init__(self):
        self.closed = False
        self.generator = self._make()

    async def _make(self):
        try:
            for chunk in (b"a", b"b", b"c"):
                yield chunk
        finally:
            self.closed = True


def sent_until(failure, at):
    """What was sent until a client was gone, or another failure, and whether the chunks were closed then."""
    sent: list[bytes | None] = []

    async def send(message):
        if len(sent) == at:
            raise failure
        sent.append(message.get("body"))

    async def scenario():
        chunks = Chunks()
        await send_stream(send, 200, [], await begin(chunks.generator))
        return chunks.closed

    return asyncio.run(scenario()), sent


@pytest.mark.parametrize("failure", [asyncio.CancelledError(), RuntimeError("no"), asyncio.TimeoutError()])
@pytest.mark.parametrize("at", range(4))
def test_a_stream_that_cannot_be_sent_is_closed(failure, at):
    assert sent_until(failure, at) == (True, [None, b"a", b"b", b"c"][:at])


def test_a_stream_that_is_sent_ends_whole():
    assert sent_until(None, -1) == (True, [None, b"a", b"b", b"c", b""])
