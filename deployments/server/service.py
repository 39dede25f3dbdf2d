"""What the doors translate to: the Open Inference Protocol's questions, asked of the engine in plain types.

The ensemble is a model, and so is every member that reads only request inputs. All have the one version "1".
"""

# B rows

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

from numpy.typing import NDArray

from quorate.deployments.engine.engine import Engine
from quorate.deployments.engine.requests.request import DEFAULT_PRIORITY, Answer
from quorate.deployments.engine.revision import Revision
from quorate.deployments.engine.revision_set import ServedRevision
from quorate.deployments.errors import DeployError, RequestError, UnavailableError, UnknownModelError, UnsupportedError
from quorate.deployments.learning.learning import Learning
from quorate.deployments.memory_budget import MemoryBudget, MemoryHold
from quorate.deployments.metrics.prometheus import Metrics
from quorate.deployments.metrics.statistics import Statistics
from quorate.deployments.server.classification import classified
from quorate.deployments.server.heavy_work import HeavyWork
from quorate.deployments.server.inputs import check_inputs, from_bytes
from quorate.deployments.server.model_metadata import model_metadata
from quorate.deployments.server.parameters import read_deadline_s, read_explain, read_members, read_priority
from quorate.deployments.server.request_log import log_request
from quorate.deployments.server.telemetry_settings import Configure
from quorate.deployments.server.token_tags import with_tags
from quorate.deployments.server.tracing import answered
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.patch import revise
from quorate.deployments.wire.feedback import FeedbackReply, GivenLabel
from quorate.deployments.wire.inference import VERSION, InferRequest, InferResponse, Scalar
from quorate.deployments.wire.limits import MAX_BODY_BYTES, MAX_ROWS

Array = NDArray[Any]
_Named = Mapping[str, Mapping[str, Scalar]]
# Makes live, on every fusion replica, what a function makes of the spec that is live then.
Publish = Callable[[Callable[[EnsembleSpec], EnsembleSpec]], Awaitable[None]]
EXTENSIONS = (
    "classification", "statistics", "model_configuration", "model_repository", "schedule_policy", "binary_tensor_data",
    "parameters", "trace", "logging",
)  # fmt: skip
# What a number takes as JSON at most, with a comma and what makes it readable; and names and parameters beside them.
TEXT_BYTES_PER_ELEMENT, REST_BYTES = 40, 4 << 20


@dataclass(frozen=True)
class DoorAddresses:
    """``host:port`` of every door of the ensemble, on whichever node; clients that lost one go on to another."""

    http: tuple[str, ...] = ()
    grpc: tuple[str, ...] = ()


@dataclass(slots=True)
class Asked:
    """What a request asks of the engine; see ``Engine.infer``."""

    served: ServedRevision
    deadline_s: float | None
    explain: bool = False
    members: tuple[str, ...] | None = None
    priority: int = DEFAULT_PRIORITY


class Reading:
    """See ``Service.reading``."""

    __slots__ = ("_metrics",)

    def __init__(self, metrics: Metrics):
        self._metrics = metrics

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, RequestError):
            self._metrics.answered("invalid")


class Service:
    """Answers for the ensemble and each of its members.

    Attributes:
        statistics: how the requests to each model went.
        budget: the bytes that all requests may hold.
        heavy: where what takes long is done.
        leaving: this server is about to close: it answers what it is asked, and tells those who look not to ask more.
        configure: has other doors trace and log in the same way; None where there are none.
    """

    leaving = False

    def __init__(
        self,
        engine: Engine,
        publish: Publish | None = None,
        doors: Callable[[], DoorAddresses] = DoorAddresses,
        budget: MemoryBudget | None = None,
        configure: Configure | None = None,
        learning: Learning | None = None,
    ):
        self._learning = learning
        self.engine, self._publish, self._doors, self.configure = engine, publish, doors, configure
        self.budget = budget or MemoryBudget(engine.spec.serving.max_request_bytes)
        state = engine.metrics.state
        state.held_bytes, state.limit_bytes = (lambda: self.budget.held_bytes), self.budget.limit_bytes
        self.heavy = HeavyWork()
        self.statistics: defaultdict[str, Statistics] = defaultdict(Statistics)

    @property
    def _spec(self) -> EnsembleSpec:
        return self.engine.revisions.live.revision.spec

    @property
    def models(self) -> tuple[str, ...]:
        """The names served, the ensemble's first: members come and go with revisions."""
        return self.engine.revision.models

    def server_metadata(self) -> dict[str, Any]:
        """The protocol's three fields, and the addresses of the doors."""
        return {
            "name": "quorate",
            "version": version("quorate"),
            "extensions": list(EXTENSIONS),
            "doors": {protocol: list(addresses) for protocol, addresses in asdict(self._doors()).items()},
        }

    def online(self) -> Mapping[str, Any]:
        """What weights that learn have come to, as who learns has written it last; empty where nothing learns."""
        return self.engine.metrics.state.online

    def ready(self) -> bool:
        """Whether a quorum of members takes calls, and this server goes on to ask them."""
        return not self.leaving and self.engine.answerable()

    def model_ready(self, model: str, version: str = "") -> bool:
        """Whether a model takes calls; an unknown one does not."""
        if model not in self.models or version not in ("", VERSION):
            return False
        return self.ready() if model == self._spec.name else self.engine.ready()[model] > 0

    def model_metadata(self, model: str, version: str = "") -> dict[str, Any]:
        self.check_model(model, version)
        return model_metadata(self.engine, model, self._inputs(model))

    @cached_property
    def infer_paths(self) -> Mapping[str, tuple[str, str]]:
        """Model and version by the path where the ensemble is asked; none where it has more to say than the engine."""
        spec = self._spec
        if spec.outputs or spec.of_tokens:
            return {}
        path = f"/v2/models/{spec.name}"
        return {f"{path}/infer": (spec.name, ""), f"{path}/versions/{VERSION}/infer": (spec.name, VERSION)}

    def check_model(self, model: str, version: str = "") -> None:
        """Raise UnknownModelError unless the model and version are served."""
        if model not in self.models:
            raise UnknownModelError(model, ", ".join(self.models))
        if version not in ("", VERSION):
            raise UnknownModelError(model, f"version {VERSION} of it", version)

    async def publish(self, model: str, config: str) -> None:
        """Make another fusion of the ensemble the live one, on every replica or on none.

        Args:
            config: see ``quorate.deployments.spec.patch``.

        Raises:
            RequestError: the config is not one, or not an ensemble's.
            SpecError: the fusion is not valid.
            UnavailableError: it could not be published; the old one still answers.
        """
        self.check_model(model)
        if model != self._spec.name:
            raise UnsupportedError(f"'{model}' is a member: it changes with the spec; use quorate deploy")
        if self._publish is None:
            raise UnavailableError("this server stands alone; no revision can be published to it")
        try:
            revise(self.engine.revision.spec, config)  # a mistake is refused before anything is waited for
            await self._publish(lambda live: revise(live, config))
        except DeployError as error:
            raise UnavailableError(str(error)) from None

    async def take_labels(self, model: str, labels: Sequence[GivenLabel], version: str = "") -> FeedbackReply:
        """Labels for answers of the ensemble; those that are accepted are written when it returns.

        Raises:
            RequestError: the model is a member, which gives no answers with an id; or nothing is recorded here.
            OverloadedError, UnavailableError: they cannot be written now.
        """
        self.check_model(model, version)
        if model != self._spec.name:
            raise RequestError(f"'{model}' is a member; give labels for the answers of '{self._spec.name}'")
        if self._learning is None:
            raise UnsupportedError("this server keeps no record; labels are for ensembles that are deployed")
        return await self._learning.take(labels)

    def most_body_bytes(self, model: str, version: str = "") -> int:
        """The longest body that a request to a model can need, on any wire.

        Raises:
            UnknownModelError: there is no such model.
        """
        self.check_model(model, version)
        elements = 0
        for name in self._inputs(model):
            tensor = self._spec.inputs[name]
            if tensor.datatype == "BYTES" or -1 in tensor.shape:
                return MAX_BODY_BYTES
            elements += math.prod(tensor.shape)
        return min(REST_BYTES + elements * MAX_ROWS * TEXT_BYTES_PER_ELEMENT, MAX_BODY_BYTES)

    async def infer(self, request: InferRequest, hold: MemoryHold) -> InferResponse:
        """Run one inference.

        Args:
            hold: what the request takes of the budget.

        Raises:
            RequestError: the request does not fit the model.
            QuorateError: what the engine raises.
        """
        self.check_model(request.model, request.version)
        started = time.perf_counter_ns()
        if request.trace is not None:
            request.trace.named(request.id)
        try:
            response, queued_s = await self._infer(request, hold)
        except BaseException as error:  # a cancelled request failed too
            self.failed(request, started, error)
            raise
        self.succeeded(request, response, queued_s, started)
        return response

    def failed(self, request: InferRequest, started_ns: int, error: BaseException) -> None:
        """Count a request that ended without an answer; ``started_ns`` is of ``time.perf_counter_ns``."""
        self.statistics[request.model].fail(time.perf_counter_ns() - started_ns)
        if request.trace is not None and self.engine.tracer.settings.logs.verbose:
            log_request(request.trace, request, self.engine.revision.name, started_ns, error)

    def succeeded(self, request: InferRequest, response: InferResponse, queued_s: float, started_ns: int) -> None:
        """Count one that was answered; it waited for its turn so long."""
        if request.trace is not None:
            answered(request.trace, response)
            if self.engine.tracer.settings.logs.verbose:
                log_request(request.trace, request, str(response.parameters.get("revision", "")), started_ns)
        self.count(request, queued_s, started_ns, time.perf_counter_ns())

    def count(self, request: InferRequest, queued_s: float, started_ns: int, ended_ns: int) -> None:
        """The same of one that is not traced."""
        rows, elapsed_ns = len(next(iter(request.inputs.values()))), ended_ns - started_ns
        self.statistics[request.model].succeed(rows, elapsed_ns, min(int(queued_s * 1e9), elapsed_ns))

    def reading(self) -> Reading:
        """A context in which a request is read off the wire: one that is wrong is counted."""
        return Reading(self.engine.metrics)

    def carried(self, model: str, input_s: float, output_s: float) -> None:
        """Count what a door took to read a request and to write its answer."""
        self.engine.metrics.door(input_s + output_s)
        self.statistics[model].carry(int(input_s * 1e9), int(output_s * 1e9))

    def choose(self, request: InferRequest) -> ServedRevision:
        """The revision that is to answer: picked once, since names, labels and deadline are those of it."""
        named = request.model != self._spec.name or "members" in request.parameters
        return self.engine.revisions.choose(named=named)

    def asked(self, request: InferRequest, served: ServedRevision) -> Asked:
        """What a request asks of the engine, checked.

        Args:
            served: as of ``choose``.

        Raises:
            RequestError: the request does not fit the model.
        """
        parameters, model, spec = request.parameters, request.model, self._spec
        ensemble, revision = model == spec.name, served.revision
        check_inputs(request, spec.inputs if ensemble else spec.members[model].inputs, revision.spec.inputs)
        if request.outputs:
            known = revision.outputs(model)
            for name in request.outputs:
                if name not in known:
                    raise RequestError(
                        f"unexpected inference output '{name}' for model '{model}'; it gives {', '.join(known)}"
                    )
        deadline_s = read_deadline_s(request)
        if not parameters or not ensemble:
            return Asked(served, deadline_s)
        explain, priority = read_explain(parameters), read_priority(parameters)
        return Asked(served, deadline_s, explain, read_members(parameters, revision.fused), priority)

    def plain_response(self, request: InferRequest, asked: Asked, answer: Answer) -> InferResponse:
        """The engine's answer as it is: to a request at one of ``infer_paths`` without classification."""
        revision = asked.served.revision
        outputs = {revision.output(request.model): answer.values}
        return _explained(request, outputs, answer, _named(revision, request, answer.values))

    async def _infer(self, request: InferRequest, hold: MemoryHold) -> tuple[InferResponse, float]:
        """The answer, and how long the request waited for its turn."""
        asked = self.asked(request, self.choose(request))
        served, deadline_s = asked.served, asked.deadline_s
        spec, output = served.revision.spec, served.revision.output(request.model)
        if request.model != spec.name:
            started = time.perf_counter()
            reply = await self.engine.infer_member(request.model, request.inputs, deadline_s, request.trace)
            assert reply.values is not None
            outputs = await self._classified(served.revision, request, {output: reply.values}, hold)
            waited_s = time.perf_counter() - started - reply.inference_s
            named = _named(served.revision, request, outputs.get(output))
            return InferResponse(request.model, outputs, request.id, output_parameters=named), max(waited_s, 0.0)
        if served.views:
            return await self._infer_several(asked, request, hold)
        answer = await self.engine.infer(
            request.inputs, deadline_s, asked.explain, asked.members, asked.priority, served, request.trace
        )  # fmt: skip
        outputs = {output: answer.values}
        if spec.of_tokens:
            outputs = await with_tags(outputs, request, spec, self.heavy, hold)
        outputs = await self._classified(served.revision, request, outputs, hold)
        named = _named(served.revision, request, outputs.get(output))
        return _explained(request, outputs, answer, named), answer.queued_s

    async def _infer_several(
        self, asked: Asked, request: InferRequest, hold: MemoryHold
    ) -> tuple[InferResponse, float]:
        """The outputs that were asked for by name; or all, of which some may be missing."""
        served, members = asked.served, asked.members
        wanted, views = request.outputs or tuple(served.views), served.revision.views
        for name in request.outputs or () if members is not None else ():
            if not set(members or ()) & set(views[name].asked):
                known = ", ".join(views[name].asked)
                raise RequestError(f"parameter members names none of output '{name}'; add one of {known}")
        found = await self.engine.infer_outputs(
            wanted, request.inputs, served, asked.deadline_s, asked.explain, members, asked.priority, request.trace
        )  # fmt: skip
        for name in request.outputs or ():  # who names one needs it
            if name in found.errors:
                raise found.errors[name]
        outputs: dict[str, Array] = {}
        said: dict[str, Mapping[str, Scalar]] = {}
        for name, answer in found.answers.items():
            view = views[name]
            outputs |= await self._classified(view, request, {name: answer.values}, hold)
            said[name] = {**answer.parameters(), **_named(view, request, outputs[name]).get(name, {})}
            if answer.explanation is not None:
                outputs |= answer.explanation.named(f"{name}.")
        return InferResponse(request.model, outputs, request.id, found.parameters(), said), found.queued_s

    def raw_input(self, model: str, data: memoryview, version: str = "") -> InferRequest:
        """A request whose body is nothing but the bytes of the model's one input.

        Raises:
            RequestError: the model reads several inputs, or the bytes are not a whole number of rows.
        """
        self.check_model(model, version)
        names = self._inputs(model)
        if len(names) != 1:
            raise RequestError(f"'{model}' reads {', '.join(names)}; a body of bytes alone is for models of one input")
        return InferRequest(model, {names[0]: from_bytes(model, data, self._spec.inputs[names[0]])}, version)

    async def _classified(
        self, revision: Revision, request: InferRequest, outputs: dict[str, Array], hold: MemoryHold
    ) -> dict[str, Array]:
        """Replace the outputs that were asked for as classes by their best ones."""
        if not request.classification:
            return outputs
        labels = revision.classes(request.model)
        return await classified(outputs, request.classification, labels, self.heavy, hold)

    def _inputs(self, model: str) -> tuple[str, ...]:
        return tuple(self._spec.inputs) if model == self._spec.name else self._spec.members[model].inputs


def _explained(request: InferRequest, outputs: dict[str, Array], answer: Answer, named: _Named) -> InferResponse:
    if answer.explanation is not None:
        outputs |= answer.explanation.named()
    return InferResponse(request.model, outputs, request.id, answer.parameters(), named)


def _named(revision: Revision, request: InferRequest, values: Array | None) -> Mapping[str, Mapping[str, Scalar]]:
    """The classes that a model's output has, as its parameter; none where it is classified, or was not asked for."""
    said, name = revision.output_parameters.get(request.model), revision.output(request.model)
    if said is None or values is None or name in request.classification:
        return {}
    return {name: said} if values.shape[-1] == len(revision.classes(request.model)) else {}
