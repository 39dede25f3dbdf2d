"""All models in one worker of MOSEC, behind its own door in Rust and its dynamic batching.

It runs in an environment of its own, that of the interpreter which starts it. MOSEC gives a worker the body of a
request and no headers, so that what is not JSON comes to a path of its own: the bare numbers, which is also the least
that can be sent.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import Any

import numpy as np
import torch
from bodies import INFER, Rows, read_body, write_answer
from child import asked, free_port
from mlp import NUM_CLASSES, build, mean
from mosec import Runtime, Server, Worker

ARGUMENTS = ("SERVING_MEMBERS", "SERVING_FEATURES")
RAW = "/raw"


class Json(Worker):
    """What comes and goes is the Open Inference Protocol's JSON."""

    def __init__(self) -> None:
        super().__init__()
        torch.set_num_threads(1)
        members, self._features = (int(os.environ[name]) for name in ARGUMENTS)
        self._models = [build(seed, self._features) for seed in range(members)]

    def deserialize(self, data: bytes) -> Rows:
        return read_body(data, None)

    def serialize(self, data: Rows) -> bytes:
        return write_answer(data, binary=False)[0]

    def forward(self, data: Any) -> Any:  # with more it would write a schema of them
        values = mean(self._models, np.concatenate(data))
        return np.split(values, np.cumsum([len(rows) for rows in data])[:-1])


class Raw(Json):
    """The numbers alone, (B, F) and (B, C)."""

    def deserialize(self, data: bytes) -> Rows:
        return np.frombuffer(data, np.float32).reshape(-1, self._features)

    def serialize(self, data: Rows) -> bytes:
        return data.reshape(-1, NUM_CLASSES).tobytes()


def main() -> None:
    arguments = asked()
    os.environ.update(zip(ARGUMENTS, map(str, (arguments.members, arguments.features)), strict=True))
    port = free_port()
    sys.argv[1:] = ["--port", str(port), "--address", "127.0.0.1", "--timeout", "30000", "--log-level", "error"]
    server = Server()
    # A batch takes what has arrived meanwhile; 1 ms is the least that MOSEC waits for more.
    server.register_runtime({INFER: [_runtime(Json)], RAW: [_runtime(Raw)]})
    threading.Thread(target=_tell_and_wait, args=(port,), daemon=True).start()
    server.run()


def _runtime(worker: type[Worker]) -> Runtime:
    return Runtime(worker, num=1, max_batch_size=64, max_wait_time=1)


def _tell_and_wait(port: int) -> None:
    url = f"http://127.0.0.1:{port}"
    while True:
        try:
            urllib.request.urlopen(f"{url}/", timeout=1).close()
            break
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    print(json.dumps({"url": url, "raw": url + RAW}), flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), 15)


if __name__ == "__main__":
    main()
