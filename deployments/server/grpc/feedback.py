"""The RPC of ``quorate.Feedback``: labels for answers, as HTTP takes them."""

from __future__ import annotations

from functools import partial

from quorate.deployments.server.grpc.access import level_of
from quorate.deployments.server.grpc.call import Call, Method
from quorate.deployments.server.grpc.rpcs import MESSAGE_COPIES, unary
from quorate.deployments.server.service import Service
from quorate.deployments.wire import feedback_pb2 as pb
from quorate.deployments.wire.feedback import GivenLabel, checked_label

SERVICE = pb.DESCRIPTOR.services_by_name["Feedback"]
# More are read from their message on another thread.
_INLINE_BYTES = 1 << 16


async def _give(service: Service, request: pb.FeedbackRequest, _call: Call) -> pb.FeedbackResponse:
    size = request.ByteSize()
    with service.budget.hold() as hold:
        hold.add(MESSAGE_COPIES * size)
        given = await service.heavy.run(size, partial(_labels, request), _INLINE_BYTES)
        found = await service.take_labels(request.model_name, given)
    told = [pb.FeedbackResponse.Refused(index=r.index, id=r.id, verdict=r.verdict, why=r.why) for r in found.refused]
    return pb.FeedbackResponse(counts=found.counts, refused=told)


def _labels(request: pb.FeedbackRequest) -> list[GivenLabel]:
    return [
        checked_label(one.id, list(one.classes) or list(one.values), one.row, one.output, f"label {place}")
        for place, one in enumerate(request.labels)
    ]


def feedback_methods(service: Service) -> dict[bytes, Method]:
    """All RPCs of the service, by path."""
    path = f"/{SERVICE.full_name}/Give"
    return {path.encode(): Method(unary(partial(_give, service)), pb.FeedbackRequest, level_of(path), False)}
