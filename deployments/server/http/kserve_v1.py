"""The paths of KServe's first protocol, for clients that speak no other; they ask what ``/v2`` asks."""

from __future__ import annotations

import re
from functools import partial

from quorate.deployments.server.compression import Headers, pack_answer
from quorate.deployments.server.http.bodies import IncomingBody
from quorate.deployments.server.http.disconnect import DisconnectWatcher
from quorate.deployments.server.http.replies import JSON, Reply, json_reply, traced, wrong_method
from quorate.deployments.server.service import Service
from quorate.deployments.server.tracing import begin_http, context_of
from quorate.deployments.telemetry.tracer import RequestTrace
from quorate.deployments.wire.byte_stream import Receive
from quorate.deployments.wire.kserve_v1 import dump_predictions, parse_predict

_ROUTE = "/v1/models/{model}:predict"
_PATH = re.compile(r"/v1/models(?:/([^/:]+)(:predict)?)?")
# A number is up to so many times as long as the eight bytes that hold it.
TEXT_PER_BINARY = 5


class KserveV1:
    """Answers for the same service as the paths under ``/v2``."""

    def __init__(self, service: Service, clients: DisconnectWatcher):
        self._service, self._clients = service, clients

    async def answer(self, path: str, method: str, headers: Headers, receive: Receive) -> Reply | None:
        """None for a path that is none of the protocol's."""
        found = _PATH.fullmatch(path)
        if found is None:
            return None
        model, predict = found.groups()
        if predict:
            if method != "POST":
                return wrong_method(method, "POST")
            trace = begin_http(self._service.engine.tracer, model, context_of(headers), _ROUTE)
            work = self._predict(model, headers, receive, trace)
            return await (work if trace is None else traced(trace, work))
        if method not in ("GET", "HEAD"):
            return wrong_method(method, "GET")
        if model is None:
            return json_reply({"models": list(self._service.models)})
        self._service.check_model(model)
        return json_reply({"name": model, "ready": self._service.model_ready(model)})

    async def _predict(self, model: str, headers: Headers, receive: Receive, trace: RequestTrace | None) -> Reply:
        service = self._service
        with service.reading():
            limit_bytes, inputs = service.most_body_bytes(model), service.model_metadata(model)["inputs"]
        with IncomingBody(service.budget, service.heavy, limit_bytes) as incoming:
            with service.reading():
                body = await incoming.read(headers, receive)
                request = await incoming.parse(body, partial(parse_predict, body, model, inputs))
            request.trace = trace
            response = await self._clients.work_for(receive, service.infer(request, incoming.hold))
            size = TEXT_PER_BINARY * sum(array.nbytes for array in response.outputs.values())
            incoming.hold.add(size)
            reply = await service.heavy.run(size, partial(dump_predictions, response))
        reply, coding = await pack_answer(reply, headers, service.heavy)
        return 200, [*JSON, *coding], reply
