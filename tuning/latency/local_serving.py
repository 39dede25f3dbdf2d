"""An ensemble served without Ray Serve or a door, to be timed: an engine, and a process for each member behind it."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvloop
from numpy.typing import NDArray

from quorate.deployments.engine.engine import Engine
from quorate.deployments.members.inference_loop import InferenceLoop
from quorate.deployments.members.member_group import MemberGroup
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.routing.replica import Address
from quorate.deployments.sources.loading import load_model
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.transport.unix import UnixListener
from quorate.fusion.errors import QuorateError
from quorate.tuning.errors import PredictionError

Inputs = Mapping[str, NDArray[Any]]
_READY_S = 60.0
_WARM_UP = 20
# A fork of a process that has imported everything starts in a tenth of a second, a new interpreter in three.
_FORKS = multiprocessing.get_context("forkserver")


def seconds_of_requests(spec: EnsembleSpec, folder: Path, inputs: Inputs, requests: int) -> NDArray[np.float64]:
    """(requests,) seconds from a request of one row to its answer, one after the other.

    Args:
        spec: the ensemble; ``folder`` is what its paths start from.
        inputs: request rows, asked in turn.

    Raises:
        PredictionError: a member did not start.
    """
    with tempfile.TemporaryDirectory(prefix="q") as place, _processes(spec, folder, Path(place)) as addresses:
        return uvloop.run(_ask(spec, folder, addresses, inputs, requests))


@contextlib.contextmanager
def _processes(spec: EnsembleSpec, folder: Path, place: Path) -> Iterator[Mapping[str, Address]]:
    """A process for each member, gone when the context ends."""
    _FORKS.set_forkserver_preload(["quorate.tuning.latency.local_serving"])
    started = []
    try:
        for number, name in enumerate(spec.members):
            near, far = _FORKS.Pipe()
            path = place / str(number)  # a socket's path holds a hundred letters, a member's name may have more
            process = _FORKS.Process(target=_serve, args=(spec, name, folder, path, far), daemon=True)
            process.start()
            far.close()
            started.append((name, path, process, near))
        for name, _, _, near in started:
            _wait(name, near)
        yield {name: Address("only", "here", str(path)) for name, path, _, _ in started}
    finally:
        for _, _, process, near in started:
            near.close()
            process.kill()
            process.join()


def _wait(name: str, near: Connection) -> None:
    try:
        found = near.recv() if near.poll(_READY_S) else f"it was not ready within {_READY_S:g} s"
    except EOFError:
        found = "its process died"
    if found:
        raise PredictionError(f"members.{name}", found, "correct the member")


def _serve(spec: EnsembleSpec, name: str, folder: Path, path: Path, far: Connection) -> None:
    """One member's replica, until the other end of the pipe is gone."""
    member = spec.members[name]
    torch.set_num_threads(max(1, int(member.resources.num_cpus)))
    try:
        predictor = Predictor(load_model(name, member, folder), spec.job(name))
        predictor.warm_up()
    except QuorateError as error:
        far.send(str(error))
        return
    loop = InferenceLoop(MemberGroup([predictor]), [UnixListener(path)])
    loop.start()
    far.send("")
    with contextlib.suppress(EOFError):
        far.recv()


async def _ask(
    spec: EnsembleSpec, folder: Path, addresses: Mapping[str, Address], inputs: Inputs, requests: int
) -> NDArray[np.float64]:
    engine = Engine(spec, folder, "here")
    try:
        for name, address in addresses.items():
            engine.revisions.set_replicas(name, {"only": address})
        until = time.monotonic() + _READY_S
        while not all(engine.ready().values()) and time.monotonic() < until:
            engine.reconcile()
            await asyncio.sleep(0.01)
        rows = _single(spec, inputs)
        seconds = [await _timed(engine, rows[number % len(rows)]) for number in range(_WARM_UP + requests)]
    finally:
        engine.close()
    return np.array(seconds[_WARM_UP:])


def _single(spec: EnsembleSpec, inputs: Inputs) -> Sequence[Inputs]:
    count = min(len(array) for array in inputs.values())
    return [{name: inputs[name][number : number + 1] for name in spec.inputs} for number in range(count)]


async def _timed(engine: Engine, row: Inputs) -> float:
    started = time.perf_counter()
    with contextlib.suppress(QuorateError):  # too late, or without a quorum: that took its time too
        await engine.infer(row)
    return time.perf_counter() - started
