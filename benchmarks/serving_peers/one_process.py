"""All three models inside one uvicorn process: what a script without any fault tolerance or scaling can do."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import orjson
import torch
import uvicorn
from child import free_port, serve_until_told
from mlp import SEEDS, build, probabilities
from protocol import answer, read_rows

MODELS = [build(seed) for seed in SEEDS]


async def app(scope: Any, receive: Any, send: Any) -> None:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    rows = read_rows(orjson.loads(body))
    mean = np.mean([probabilities(model, rows) for model in MODELS], axis=0)
    reply = orjson.dumps(answer(mean))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(reply)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": reply})


async def main() -> None:
    port = free_port()
    config = uvicorn.Config(
        app, port=port, http="httptools", loop="uvloop", interface="asgi3", lifespan="off", access_log=False,
        log_level="warning",
    )  # fmt: skip
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    await asyncio.to_thread(serve_until_told, f"http://127.0.0.1:{port}")
    server.should_exit = True
    await serving


if __name__ == "__main__":
    import uvloop

    torch.set_num_threads(1)
    uvloop.run(main())
