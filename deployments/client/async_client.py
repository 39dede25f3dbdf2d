"""The client for event loops: the same calls, awaited."""

# B rows

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import httpx
from numpy.typing import ArrayLike

from quorate.deployments.client.inference import (
    Attempt,
    Call,
    Calls,
    Inputs,
    Outcome,
    Pause,
    SocketOptions,
    T,
)
from quorate.deployments.client.labels import given_labels
from quorate.deployments.client.messages import Scalar
from quorate.deployments.client.result import Result
from quorate.deployments.client.row_batches import Rows, row_batches
from quorate.deployments.wire.feedback import FeedbackReply, GivenLabel

if TYPE_CHECKING:
    from quorate.deployments.client.arrow import ArrowResult


class AsyncClient(Calls[httpx.AsyncClient]):
    """Speaks the Open Inference Protocol over HTTP; one connection pool, for the tasks of one event loop.

    Arguments, results and errors are those of ``Client``.
    """

    def _open(
        self, headers: dict[str, str], pool: httpx.Limits, verify: ssl.SSLContext | bool, sockets: SocketOptions | None
    ) -> httpx.AsyncClient:
        if sockets is None:
            return httpx.AsyncClient(headers=headers, verify=verify, limits=pool)
        transport = httpx.AsyncHTTPTransport(verify=verify, limits=pool, socket_options=sockets)
        return httpx.AsyncClient(headers=headers, transport=transport)

    async def infer(self, model: str | Inputs = "", inputs: Inputs | None = None, /, **named: ArrayLike) -> Result:
        """Ask a model: ``await client.infer("digits", image=rows, deadline_ms=50)``; see ``Client.infer``."""
        return await self._run(self._infer(model, inputs, named))

    async def stream(
        self, rows: Rows, model: str = "", *, batch_rows: int = 64, ahead: int = 4, **parameters: ArrayLike
    ) -> AsyncGenerator[Result, None]:
        """Ask for many rows, ``async for`` answer after answer; see ``Client.stream``."""
        name = self._named(model)
        known = await self._run(self._describe(name))
        running: deque[asyncio.Task[Result]] = deque()
        try:
            for batch in row_batches(rows, batch_rows, known.inputs):
                running.append(asyncio.ensure_future(self.infer(name, batch, **parameters)))
                if len(running) >= ahead:
                    yield await running.popleft()
            while running:
                yield await running.popleft()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def curl(self, model: str | Inputs = "", inputs: Inputs | None = None, /, **named: ArrayLike) -> str:
        """The same as ``infer``, not sent but as a line of curl; see ``Client.curl``."""
        return await self._run(self._curl(model, inputs, named))

    async def infer_arrow(
        self, data: Any, model: str = "", outputs: Sequence[str] = (), **parameters: Scalar
    ) -> AsyncIterator[ArrowResult]:
        """Ask for rows in bulk, ``async for`` answer after answer; see ``Client.infer_arrow``.

        The stream is carried by a thread, which also draws the record batches from ``data``.
        """
        from quorate.deployments.client.arrow import infer_stream

        path = self._path(self._named(model), "/infer")
        answers = infer_stream(self._doors, path, self._credentials, self._timeout_s, data, parameters, outputs)
        try:
            while (answer := await asyncio.to_thread(next, answers, None)) is not None:
                yield answer
        finally:
            await asyncio.to_thread(answers.close)
        await self._run(self._find_doors())

    async def publish(self, fusion: Mapping[str, Any], model: str = "") -> None:
        """Make a fusion the live one; see ``Client.publish``."""
        await self._run(self._publish(fusion, model))

    async def feedback(
        self,
        answers: Result | str | Sequence[str] | Sequence[GivenLabel],
        labels: Sequence[Any] | str | float | None = None,
        rows: Sequence[int] | None = None,
        output: str = "",
        model: str = "",
    ) -> FeedbackReply:
        """Tell what was true of rows that were answered; see ``Client.feedback``."""
        return await self._run(self._feedback(given_labels(answers, labels, rows, output), model))

    async def models(self) -> list[str]:
        """The names of what the server has: the ensemble first, then its members; raises as ``infer``."""
        return await self._run(self._models())

    async def metadata(self, model: str = "") -> dict[str, Any]:
        """A model's inputs and outputs."""
        return await self._run(self._metadata(model))

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, call: Call[T]) -> T:
        steps, outcome = self._and_find_doors(call), None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                value: T = done.value
                return value
            outcome = await self._do(step)

    async def _do(self, step: Attempt | Pause) -> Outcome:
        if isinstance(step, Pause):
            await asyncio.sleep(step.pause_s)
            return None
        try:
            return await self._http.request(**step.options())
        except httpx.TransportError as error:
            return error
