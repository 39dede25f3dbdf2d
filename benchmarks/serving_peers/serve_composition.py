"""The same ensemble composed with Ray Serve's deployment handles, as Ray's manual shows it.

https://docs.ray.io/en/latest/serve/model_composition.html and .../serve/advanced-guides/dyn-req-batch.html. With
SERVE_TUNED=1, what the performance guide offers on top: the throughput flags and HAProxy (which the benchmark sets in
the environment, since Serve reads them at import), no waiting timer in the batches and more concurrent requests than 5.
With SERVE_BATCHED=1 requests are put together once, where they arrive, instead of by each member.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import grpc
import numpy as np
import torch
from bodies import GRPC_INFER, HEAD_LENGTH, Rows, read_body, write_answer
from child import asked, free_port, ray_cluster, serve_until_told
from mlp import build, probabilities
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response

from quorate.deployments.wire import open_inference_pb2 as pb

BATCHED = os.environ.get("SERVE_BATCHED") == "1"
TUNED = BATCHED or os.environ.get("SERVE_TUNED") == "1"
OPTIONS: dict[str, Any] = {"max_ongoing_requests": 256} if TUNED else {}
BATCHING: dict[str, Any] = {"max_batch_size": 64, "batch_wait_timeout_s": 0.0} if TUNED else {"max_batch_size": 64}
ACTOR = {"num_cpus": 0.1}


class Model:
    """A member's model."""

    def __init__(self, seed: int, features: int):
        torch.set_num_threads(1)
        self._model = build(seed, features)

    def answer(self, rows: list[Rows]) -> list[Rows]:
        """Each (B, C) of (B, F)."""
        values = probabilities(self._model, np.concatenate(rows))
        return np.split(values, np.cumsum([len(r) for r in rows])[:-1])


class Member(Model):
    async def __call__(self, rows: Rows) -> Rows:
        return self.answer([rows])[0]


class BatchingMember(Model):
    @serve.batch(**BATCHING)
    async def __call__(self, rows: list[Rows]) -> list[Rows]:
        return self.answer(rows)


class Ensemble:
    def __init__(self, *members: DeploymentHandle[Any]):
        self._members = members

    async def __call__(self, request: Request) -> Response:
        length = request.headers.get(HEAD_LENGTH)
        rows = read_body(await request.body(), None if length is None else int(length))
        body, headers = write_answer(await self._fused(rows), binary=length is not None)
        return Response(body, headers=headers)

    async def ModelInfer(self, request: Any) -> Any:  # noqa: N802 (the protocol's name)
        (data,), (tensor,) = request.raw_input_contents, request.inputs
        values = await self._fused(np.frombuffer(data, np.float32).reshape(tensor.shape))
        reply = pb.ModelInferResponse(model_name=request.model_name, model_version="1")
        reply.outputs.add(name="fused", datatype="FP32", shape=values.shape)
        reply.raw_output_contents.append(values.tobytes())
        return reply

    async def _fused(self, rows: Rows) -> Rows:
        return await (self._batched(rows) if BATCHED else self._mean(rows))

    async def _mean(self, rows: Rows) -> Rows:
        outputs = await asyncio.gather(*(member.remote(rows) for member in self._members))
        return np.asarray(np.mean(outputs, axis=0))

    @serve.batch(**BATCHING)
    async def _batched(self, rows: list[Rows]) -> list[Rows]:
        values = await self._mean(np.concatenate(rows))
        return np.split(values, np.cumsum([len(r) for r in rows])[:-1])


def add_to_server(servicer: Any, server: Any) -> None:
    """What protoc's plugin for gRPC would have written for the one call."""
    _, service, method = GRPC_INFER.split("/")
    handler = grpc.unary_unary_rpc_method_handler(
        getattr(servicer, method), pb.ModelInferRequest.FromString, pb.ModelInferResponse.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))


def compose(members: list[dict[str, Any]], features: int, fusion: dict[str, Any]) -> serve.Application:
    """The application.

    Args:
        members: Ray's options for the actor of each, likewise ``fusion``.
    """
    member, ensemble = (serve.deployment(**OPTIONS)(of) for of in (Member if BATCHED else BatchingMember, Ensemble))
    bound = [
        member.options(name=f"member{seed}", ray_actor_options={**ACTOR, **actor}).bind(seed, features)
        for seed, actor in enumerate(members)
    ]
    application: serve.Application = ensemble.options(ray_actor_options={**ACTOR, **fusion}).bind(*bound)
    return application


def main() -> None:
    arguments = asked()
    port, grpc_port = free_port(), free_port()
    functions = ["serve_composition.add_to_server"]
    with ray_cluster():
        serve.start(
            http_options={"host": "127.0.0.1", "port": port},
            grpc_options={"port": grpc_port, "grpc_servicer_functions": functions},
        )
        serve.run(compose([{}] * arguments.members, arguments.features, {}), route_prefix="/")
        serve_until_told(f"http://127.0.0.1:{port}", grpc=f"127.0.0.1:{grpc_port}")


if __name__ == "__main__":
    import serve_composition

    serve_composition.main()  # by its name, so that workers import it too
