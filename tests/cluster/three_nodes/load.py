"""Clients that keep to a schedule, in a process of their own: ``python -m tests.cluster.three_nodes.load``.

Each request is due at its time whether others have been answered or not, half of them over HTTP, half over gRPC, and
asks one of a list of doors, then another where that one refuses, breaks off or stays silent. One line of JSON is
written for each: when it was due, sent and done, which door, and what was said. Reads one line, the ``Plan``, and ends
when there is nothing more to read.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any, TextIO

import grpc
import httpx
import numpy as np

from quorate.deployments.wire import open_inference_pb2 as pb
from tests.cluster.three_nodes.classify import ERROR, LOST, REFUSED

CONNECT_S = 1.0
# What gRPC itself says where nobody is there; of an UNAVAILABLE of the server's it says none of this.
_BROKEN = (
    "failed to connect", "socket closed", "connection reset", "goaway", "connection refused", "broken pipe",
    "stream removed", "rst_stream", "tcp handshaker", "keepalive", "channel", "no route to host", "connection aborted",
)  # fmt: skip
_RETRIED = (503, 504)


@dataclass(frozen=True)
class Plan:
    """What is asked.

    Attributes:
        doors: (address, HTTP port, gRPC port) of each.
        first: the number of the first request.
        patience_s: how long one door may take.
        commanded: (every how manieth request, command, mask of members), see ``factories/oracle``.
        tries: how many doors may be asked.
        width: numbers of a row; those after the third say nothing.
    """

    model: str
    doors: tuple[tuple[str, int, int], ...]
    rate: float
    first: int
    patience_s: float
    seed: int
    log: str
    commanded: tuple[int, int, int] = (0, 0, 0)
    tries: int = 2
    width: int = 3

    def row(self, number: int) -> list[int]:
        """What is asked of the members."""
        every, command, mask = self.commanded
        said = [number, command, mask] if every and number % every == 0 else [number, 0, 0]
        return said + [0] * (self.width - len(said))


class Door:
    """One door, both of its protocols."""

    def __init__(self, plan: Plan, address: str, http_port: int, grpc_port: int):
        self.address, self._plan = address, plan
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        timeout = httpx.Timeout(plan.patience_s, connect=CONNECT_S)
        self._http = httpx.AsyncClient(base_url=f"http://{address}:{http_port}", timeout=timeout, limits=limits)
        backoff = [(f"grpc.{which}_reconnect_backoff_ms", 200) for which in ("initial", "max", "min")]
        self._channel = grpc.aio.insecure_channel(f"{address}:{grpc_port}", options=backoff)
        self._infer = self._channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )

    async def ask(self, protocol: str, row: list[int]) -> dict[str, Any]:
        """What it says, as the fields of a line."""
        asking = self._ask_http(row) if protocol == "http" else self._ask_grpc(row)
        try:
            return await asyncio.wait_for(asking, self._plan.patience_s)
        except (asyncio.TimeoutError, httpx.ReadTimeout):
            return {"outcome": LOST, "said": f"nothing within {self._plan.patience_s:g} s"}

    async def close(self) -> None:
        await self._http.aclose()
        await self._channel.close()

    async def _ask_http(self, row: list[int]) -> dict[str, Any]:
        body = {"inputs": [{"name": "row", "datatype": "INT64", "shape": [1, len(row)], "data": row}]}
        try:
            reply = await self._http.post(f"/v2/models/{self._plan.model}/infer", json=body)
        except httpx.ReadTimeout:
            raise
        except httpx.TransportError as error:
            return {"outcome": REFUSED, "said": repr(error)}
        found = reply.json()
        if reply.status_code != 200:
            return {"outcome": ERROR, "said": found["error"], "status": reply.status_code}
        return _answer(found["outputs"][0]["data"], found["parameters"])

    async def _ask_grpc(self, row: list[int]) -> dict[str, Any]:
        tensor = pb.ModelInferRequest.InferInputTensor(name="row", datatype="INT64", shape=[1, len(row)])
        raw = np.array(row, dtype=np.int64).tobytes()
        message = pb.ModelInferRequest(model_name=self._plan.model, inputs=[tensor], raw_input_contents=[raw])
        try:
            reply = await self._infer(message)
        except grpc.aio.AioRpcError as error:
            said, code = error.details() or "", error.code()
            if code is grpc.StatusCode.UNAVAILABLE and any(word in said.lower() for word in _BROKEN):
                return {"outcome": REFUSED, "said": said}
            status = {grpc.StatusCode.UNAVAILABLE: 503, grpc.StatusCode.RESOURCE_EXHAUSTED: 503}
            status[grpc.StatusCode.DEADLINE_EXCEEDED] = 504
            return {"outcome": ERROR, "said": f"{code.name}: {said}", "status": status.get(code, 500)}
        values = np.frombuffer(reply.raw_output_contents[0], dtype=np.float32)
        parameters = {name: getattr(p, str(p.WhichOneof("parameter_choice"))) for name, p in reply.parameters.items()}
        return _answer(values.astype(float).tolist(), parameters)


def _answer(values: list[float], parameters: dict[str, Any]) -> dict[str, Any]:
    used, missing = (tuple(filter(None, parameters[f"members_{which}"].split(","))) for which in ("used", "missing"))
    return {
        "outcome": "answer", "values": values, "used": used, "missing": missing, "revision": parameters["revision"],
        "coverage": parameters["coverage"], "degraded": parameters["degraded"], "id": parameters["answer_id"],
    }  # fmt: skip


class Load:
    """Asks by a plan. To be made on the event loop that it runs on."""

    def __init__(self, plan: Plan):
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._doors = [Door(plan, *door) for door in plan.doors]
        self._over = asyncio.Event()
        self._asking = set[asyncio.Task[None]]()
        self._mistakes = list[BaseException]()

    async def run(self) -> int:
        """Until standard input ends, and then until the last request is done; returns how many there were."""
        threading.Thread(target=self._wait_for_end, args=(asyncio.get_running_loop(),), daemon=True).start()
        with open(self._plan.log, "w", buffering=1) as log:  # noqa: ASYNC230 (a line in memory)
            count = await self._keep_to_schedule(log)
            await asyncio.gather(*self._asking)
        for door in self._doors:
            await door.close()
        if self._mistakes:  # its own: no request may be missing from the log
            raise self._mistakes[0]
        return count

    async def _keep_to_schedule(self, log: TextIO) -> int:
        began = time.monotonic()
        for n in itertools.count():
            due = began + n / self._plan.rate
            early_s = due - time.monotonic()
            if early_s > 0:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._over.wait(), early_s)
            if self._over.is_set():
                return n
            doors = (self._random.sample(self._doors, len(self._doors)) * self._plan.tries)[: self._plan.tries]
            task = asyncio.ensure_future(self._ask(self._plan.first + n, due, ("http", "grpc")[n % 2], doors, log))
            self._asking.add(task)
            task.add_done_callback(self._done)
        raise AssertionError

    def _done(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        if error := task.exception():
            self._mistakes.append(error)

    def _wait_for_end(self, loop: asyncio.AbstractEventLoop) -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(self._over.set)

    async def _ask(self, number: int, due: float, protocol: str, doors: list[Door], log: TextIO) -> None:
        sent, row, earlier = time.monotonic(), self._plan.row(number), list[str]()
        for door in doors:
            said = await door.ask(protocol, row)
            line = {
                "number": number, "due": due, "sent": sent, "done": time.monotonic(), "door": door.address,
                "protocol": protocol, "tries": len(earlier) + 1, "earlier": "; ".join(earlier), **said,
            }  # fmt: skip
            if said["outcome"] not in (LOST, REFUSED) and said.get("status") not in _RETRIED:
                break
            earlier.append(f"{door.address}: {said['outcome']}: {said['said']}")
        log.write(json.dumps(line) + "\n")


async def run(plan: Plan) -> int:
    """Ask by a plan; returns how many requests there were."""
    return await Load(plan).run()


def main() -> None:
    """Do what one line of standard input says."""
    found = json.loads(sys.stdin.readline())
    print("ready", flush=True)
    print(asyncio.run(run(Plan(**found))), flush=True)


def to_line(plan: Plan) -> str:
    """What ``main`` reads."""
    return json.dumps(asdict(plan)) + "\n"


if __name__ == "__main__":
    main()
