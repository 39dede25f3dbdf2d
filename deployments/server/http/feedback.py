"""Labels off the wire: JSON whole, Arrow streams record batch by record batch, each written before the next is read."""

from __future__ import annotations

from functools import partial

from quorate.deployments.server.compression import Headers
from quorate.deployments.server.http.bodies import IncomingBody
from quorate.deployments.server.service import Service
from quorate.deployments.wire.arrow_stream import read_batches, read_schema
from quorate.deployments.wire.byte_stream import ByteStream, Receive
from quorate.deployments.wire.feedback import FeedbackReply, read_label_batch, read_labels
from quorate.deployments.wire.json_tensors import parse_object

MAX_BYTES = 32 << 20
# A label as Python's objects, beside its JSON or Arrow.
BYTES_PER_LABEL = 800
# Longer bodies are read on another thread.
INLINE_BYTES = 1 << 16


async def take_label_json(
    service: Service, model: str, version: str, headers: Headers, receive: Receive
) -> FeedbackReply:
    """What becomes of the labels of a body of JSON.

    Raises:
        RequestError: it holds something else.
        QuorateError: what ``Service.take_labels`` raises.
    """
    with IncomingBody(service.budget, service.heavy, MAX_BYTES) as incoming:
        body = await incoming.read(headers, receive)
        text = bytes(body.json or b"")
        incoming.hold.add(BYTES_PER_LABEL * text.count(b"{"))
        labels = await service.heavy.run(len(text), lambda: read_labels(parse_object(text)), INLINE_BYTES)
        return await service.take_labels(model, labels, version)


async def take_label_stream(
    service: Service, model: str, version: str, headers: Headers, receive: Receive
) -> FeedbackReply:
    """The same of an Arrow stream; an error midway says nothing of the batches before, which are written."""
    stream = ByteStream(receive, service.budget.hold())
    found, before = FeedbackReply.of([]), 0
    try:
        schema = await read_schema(stream)
        async for batch in read_batches(stream, schema):
            with service.budget.hold() as hold:
                hold.add(BYTES_PER_LABEL * batch.num_rows)
                labels = await service.heavy.run(batch.nbytes, partial(read_label_batch, batch), INLINE_BYTES)
                found = found.joined(await service.take_labels(model, labels, version), before)
            before += len(labels)
            stream.give_back(stream.take_held())
    finally:
        stream.close()
    return found
