"""The same ensemble composed with Ray Serve's deployment handles, as Ray's manual shows it.

https://docs.ray.io/en/latest/serve/model_composition.html and .../serve/advanced-guides/dyn-req-batch.html. With
``--tuned``, what the performance guide offers on top: the throughput flags and HAProxy (which the benchmark sets in the
environment, since Serve reads them at import), no waiting timer in the batches and more concurrent requests than 5.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import numpy as np
import torch
from child import free_port, serve_until_told, start_ray
from mlp import SEEDS, build, probabilities
from numpy.typing import NDArray
from protocol import answer, read_rows
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request

TUNED = "--tuned" in sys.argv
OPTIONS: dict[str, Any] = {"max_ongoing_requests": 256} if TUNED else {}
BATCHING: dict[str, Any] = {"max_batch_size": 64, "batch_wait_timeout_s": 0.0} if TUNED else {"max_batch_size": 64}
ACTOR = {"num_cpus": 0.1}


@serve.deployment(ray_actor_options=ACTOR, **OPTIONS)
class Member:
    def __init__(self, seed: int):
        torch.set_num_threads(1)
        self._model = build(seed)

    @serve.batch(**BATCHING)
    async def __call__(self, rows: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        values = probabilities(self._model, np.concatenate(rows))
        return np.split(values, np.cumsum([len(r) for r in rows])[:-1])


@serve.deployment(ray_actor_options=ACTOR, **OPTIONS)
class Ensemble:
    def __init__(self, *members: DeploymentHandle):
        self._members = members

    async def __call__(self, request: Request) -> dict[str, Any]:
        rows = read_rows(await request.json())
        outputs = await asyncio.gather(*(member.remote(rows) for member in self._members))
        return answer(np.mean(outputs, axis=0))


def main() -> None:
    start_ray()
    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    members = [Member.options(name=f"member{seed}").bind(seed) for seed in SEEDS]
    serve.run(Ensemble.bind(*members), route_prefix="/")
    serve_until_told(f"http://127.0.0.1:{port}")


if __name__ == "__main__":
    main()
