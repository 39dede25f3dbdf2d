"""An ensemble in this process alone, to try its spec: the code that serves it, without Ray, doors or deadlines.

Entry point: ``with InProcess(spec, folder) as ensemble: ensemble.infer("digits", {"image": images})``.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import uvloop
from numpy.typing import NDArray

from quorate.deployments.engine.engine import Engine
from quorate.deployments.errors import MemberFailedError, UnavailableError
from quorate.deployments.members.inference_loop import InferenceLoop
from quorate.deployments.members.member_group import MemberGroup
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.routing.replica import Address
from quorate.deployments.server.service import Service
from quorate.deployments.sources.loading import load_model
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.transport.unix import UnixListener
from quorate.deployments.wire.inference import InferRequest, InferResponse, Scalar
from quorate.fusion.errors import QuorateError

# All members share this process: who is late here need not be where it is served.
_PATIENCE_S = 3600.0
_POLL_S, _READY_S = 0.002, 60.0
Inputs = Mapping[str, NDArray[Any]]


@dataclass
class MemberRun:
    """How a member did.

    Attributes:
        load_s: seconds until it was loaded and warm.
        error: what it failed with last, and ``trace`` the lines of its own code that led there; empty for nothing.
    """

    load_s: float
    predictor: Predictor
    loop: InferenceLoop

    @property
    def error(self) -> str:
        return self.predictor.last_error

    @property
    def trace(self) -> str:
        return self.predictor.last_trace

    @property
    def busy_s(self) -> float:
        """Seconds of its forward passes."""
        return self.loop.busy_s


class InProcess:
    """An ensemble for as long as the context lasts, which loads all members when it is entered.

    Attributes:
        members: by name, how each did.
    """

    def __init__(self, spec: EnsembleSpec, folder: Path):
        self._spec, self._folder = spec, folder
        self._stack = ExitStack()
        self.members: dict[str, MemberRun] = {}

    def __enter__(self) -> InProcess:
        """Load them.

        Raises:
            MemberLoadError: one cannot be loaded, or fails on an example.
        """
        with ExitStack() as stack:
            self._place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="q")))
            stack.callback(self._stop)
            for name in self._spec.members:
                self.members[name] = self._started(name)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _stop(self) -> None:
        for timeout_s in (0.0, 5.0):  # all at the same time
            for run in self.members.values():
                run.loop.drain(timeout_s)

    def _socket(self, name: str) -> Path:
        """Of a member; its path holds a hundred letters, a member's name may have more."""
        return self._place / str(list(self._spec.members).index(name))

    def _started(self, name: str) -> MemberRun:
        started, member = time.monotonic(), self._spec.members[name]
        predictor = Predictor(load_model(name, member, self._folder), self._spec.job(name))
        predictor.warm_up()
        loop = InferenceLoop(MemberGroup([predictor]), [UnixListener(self._socket(name))])
        loop.start()
        return MemberRun(time.monotonic() - started, predictor, loop)

    def inputs(self, model: str) -> list[Mapping[str, Any]]:
        """What a model reads, as its metadata describes it."""
        names = self._spec.inputs if model == self._spec.name else self._spec.members[model].inputs
        tensors = {name: self._spec.inputs[name] for name in names}
        return [{"name": n, "datatype": t.datatype, "shape": [-1, *t.shape]} for n, t in tensors.items()]

    def infer(
        self, model: str, inputs: Inputs, parameters: Mapping[str, Scalar], outputs: Sequence[str] = ()
    ) -> InferResponse:
        """What a request to the ensemble or to a member would be answered.

        Args:
            outputs: those of several that are wanted; all when none are named.

        Raises:
            MemberFailedError: there is no answer because a member failed on the rows.
            QuorateError: what a request would be refused with.
        """
        request = InferRequest(model, inputs, parameters=parameters, outputs=tuple(outputs) or None)
        with ThreadPoolExecutor(1) as pool:  # a notebook runs a loop on this thread
            return pool.submit(uvloop.run, self._answer(request)).result()

    async def _answer(self, request: InferRequest) -> InferResponse:
        engine = Engine(_patient(self._spec), self._folder, "here")
        try:
            for name, run in self.members.items():
                described: dict[str, Any] = {"datatype": run.predictor.datatype, "dims": run.predictor.dims}
                address = Address("only", "here", str(self._socket(name)), **described)
                engine.revisions.set_replicas(name, {"only": address})
            until = time.monotonic() + _READY_S
            while not all(engine.ready().values()):
                if time.monotonic() > until:
                    raise UnavailableError("a member that was loaded takes no calls; see what it printed")
                engine.reconcile()
                await asyncio.sleep(_POLL_S)
            service = Service(engine)
            with service.budget.hold() as hold:
                response = await service.infer(request, hold)
        except QuorateError as error:
            self._explain(error)
            raise
        finally:
            engine.close()
        if "revision" in response.parameters:  # without the deadlines that were put off
            own = {"revision": self._spec.revision}
            response.parameters = {**response.parameters, **own}
            response.output_parameters = {
                output: {**said, **own} if "revision" in said else said
                for output, said in response.output_parameters.items()
            }
        return response

    def _explain(self, error: QuorateError) -> None:
        """Say why, where there is no answer because a member failed."""
        if error.http_status < 500:
            return
        for name, run in self.members.items():
            if run.error:
                found = f"it failed on these rows: {run.error}"
                raise MemberFailedError(name, found, "correct the member, or the rows", run.trace) from None


def _patient(spec: EnsembleSpec) -> EnsembleSpec:
    """The spec with time for everything; its members need not be checked again."""
    patient = {"deadline_s": _PATIENCE_S}
    if spec.fusion is not None:
        return spec.model_copy(update={"fusion": spec.fusion.model_copy(update=patient)})
    fusions = {name: fusion.model_copy(update=patient) for name, fusion in spec.fusions.items()}
    return spec.model_copy(update={"fusions": fusions})
