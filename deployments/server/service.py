"""What the doors translate to: the Open Inference Protocol's questions, asked of the engine in plain types.

The ensemble is a model, and so is every member that reads only request inputs. All have the one version "1".
"""

# B rows

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.engine import Engine
from quorate.deployments.engine.request import DEFAULT_PRIORITY, PRIORITY_LEVELS
from quorate.deployments.errors import DeployError, RequestError, UnavailableError, UnknownModelError, UnsupportedError
from quorate.deployments.metrics.statistics import Tally
from quorate.deployments.server.classification import top_classes
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.patch import revise
from quorate.deployments.spec.schema import TensorSpec
from quorate.deployments.wire.binary_tensors import decode
from quorate.deployments.wire.datatypes import datatype_of, numpy_dtype
from quorate.deployments.wire.inference import VERSION, InferRequest, InferResponse, Scalar
from quorate.deployments.wire.limits import MAX_ERROR_BYTES, MAX_ROWS

Array = NDArray[Any]
# Makes a spec the live one on every fusion replica.
Publish = Callable[[EnsembleSpec], Awaitable[None]]
EXTENSIONS = (
    "classification", "statistics", "model_configuration", "model_repository", "schedule_policy", "binary_tensor_data",
    "parameters",
)  # fmt: skip


class Service:
    """Answers for the ensemble and each of its members.

    Attributes:
        tallies: how the requests to each model went.
    """

    def __init__(self, engine: Engine, publish: Publish | None = None):
        self.engine, self._publish = engine, publish
        self.tallies: defaultdict[str, Tally] = defaultdict(Tally)

    @property
    def _spec(self) -> EnsembleSpec:
        return self.engine.revision.spec

    @property
    def models(self) -> tuple[str, ...]:
        """The names served, the ensemble's first: members come and go with revisions."""
        return self.engine.revision.models

    def server_metadata(self) -> dict[str, Any]:
        return {"name": "quorate", "version": version("quorate"), "extensions": list(EXTENSIONS)}

    def ready(self) -> bool:
        """Whether a quorum of members takes calls."""
        return self.engine.answerable()

    def model_ready(self, model: str, version: str = "") -> bool:
        """Whether a model takes calls; an unknown one does not."""
        if model not in self.models or version not in ("", VERSION):
            return False
        return self.ready() if model == self._spec.name else self.engine.ready()[model] > 0

    def model_metadata(self, model: str, version: str = "") -> dict[str, Any]:
        self.check_model(model, version)
        spec = self._spec
        platform = "quorate_ensemble" if model == spec.name else "quorate_member"
        inputs = [
            {"name": name, "datatype": spec.inputs[name].datatype, "shape": [-1, *spec.inputs[name].shape]}
            for name in self._inputs(model)
        ]
        return {
            "name": model,
            "versions": [VERSION],
            "platform": platform,
            "inputs": inputs,
            "outputs": [self._output_tensor(model)],
        }

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
            RequestError: the config is none, or of no ensemble.
            SpecError: the fusion is none.
            UnavailableError: it could not be published; the old one still answers.
        """
        self.check_model(model)
        if model != self._spec.name:
            raise UnsupportedError(f"'{model}' is a member: it changes with the spec; use quorate deploy")
        if self._publish is None:
            raise UnavailableError("this server stands alone; no revision can be published to it")
        try:
            await self._publish(revise(self.engine.revision.spec, config))
        except DeployError as error:
            raise UnavailableError(str(error)) from None

    async def infer(self, request: InferRequest) -> InferResponse:
        """Run one inference.

        Raises:
            RequestError: the request does not fit the model.
            QuorateError: what the engine raises.
        """
        self.check_model(request.model, request.version)
        tally, started = self.tallies[request.model], time.perf_counter_ns()
        try:
            response, queued_s = await self._infer(request)
        except BaseException:  # a cancelled request failed too
            tally.fail(time.perf_counter_ns() - started)
            raise
        rows, elapsed_ns = len(next(iter(request.inputs.values()))), time.perf_counter_ns() - started
        tally.succeed(rows, elapsed_ns, min(int(queued_s * 1e9), elapsed_ns))
        return response

    def carried(self, model: str, input_s: float, output_s: float) -> None:
        """Count what a door took to read a request and to write its answer."""
        self.engine.metrics.door(input_s + output_s)
        self.tallies[model].carry(int(input_s * 1e9), int(output_s * 1e9))

    async def _infer(self, request: InferRequest) -> tuple[InferResponse, float]:
        """The answer, and how long the request waited for its turn."""
        spec = self._spec
        ensemble = request.model == spec.name
        self._check_inputs(request, spec)
        output = self._output(request.model)
        for name in request.outputs or ():
            if name != output:
                raise RequestError(
                    f"unexpected inference output '{name}' for model '{request.model}'; it gives {output}"
                )
        deadline_s = _deadline_s(request)
        if not ensemble:
            started = time.perf_counter()
            reply = await self.engine.infer_member(request.model, request.inputs, deadline_s)
            assert reply.values is not None
            outputs = self._classified(request, {output: reply.values})
            waited_s = time.perf_counter() - started - reply.inference_s
            return InferResponse(request.model, outputs, request.id), max(waited_s, 0.0)
        explain = _flag(request.parameters, "explain")
        members, priority = self._members(request.parameters), _priority(request.parameters)
        answer = await self.engine.infer(request.inputs, deadline_s, explain, members, priority)
        outputs = self._classified(request, {output: answer.values})
        if answer.explanation is not None:
            outputs.update({f"{n}.output": values for n, values in answer.explanation.outputs.items()})
            outputs.update({f"{n}.contribution": share for n, share in answer.explanation.contributions.items()})
        return InferResponse(request.model, outputs, request.id, answer.parameters()), answer.queued_s

    def raw_input(self, model: str, data: memoryview, version: str = "") -> InferRequest:
        """A request whose body is nothing but the bytes of the model's one input.

        They are as many rows as they make, or, where one size of the shape is free, one row.

        Raises:
            RequestError: the model reads several inputs, or the bytes make no whole rows.
        """
        self.check_model(model, version)
        names = self._inputs(model)
        if len(names) != 1:
            raise RequestError(f"'{model}' reads {', '.join(names)}; a body of bytes alone is for models of one input")
        spec = self._spec.inputs[names[0]]
        if spec.datatype == "BYTES":
            if math.prod(spec.shape) != 1:
                raise RequestError(f"'{model}' reads {list(spec.shape)} strings a row; send them with their lengths")
            array = np.empty((1, *spec.shape), dtype=object)
            array.flat[0] = bytes(data)
            return InferRequest(model, {names[0]: array}, version)
        shape = [1, *spec.shape] if -1 in spec.shape else [-1, *spec.shape]
        elements = np.frombuffer(data, np.uint8)
        itemsize = numpy_dtype(spec.datatype).itemsize
        known = math.prod(size for size in shape if size != -1) * itemsize
        if shape.count(-1) > 1 or not known or len(elements) % known or not len(elements):
            raise RequestError(f"{len(elements)} bytes are no whole rows of {spec.datatype} {list(spec.shape)}")
        shape[shape.index(-1)] = len(elements) // known
        return InferRequest(model, {names[0]: decode(data, spec.datatype, tuple(shape))}, version)

    def _classified(self, request: InferRequest, outputs: dict[str, Array]) -> dict[str, Array]:
        """Replace the outputs that were asked for as classes by their best ones."""
        if not request.classification:
            return outputs
        member = self._spec.members.get(request.model)
        labels = self._spec.classes if member is None else member.classes or self._spec.classes
        for name, count in request.classification.items():
            if type(count) is not int or count < 1:
                raise RequestError(f"parameter classification is {count!r}; give a whole number from 1")
            outputs[name] = top_classes(outputs[name], count, labels)
        return outputs

    def _inputs(self, model: str) -> tuple[str, ...]:
        return tuple(self._spec.inputs) if model == self._spec.name else self._spec.members[model].inputs

    def _output(self, model: str) -> str:
        revision = self.engine.revision
        return revision.graph.output.name if model == revision.spec.name else revision.spec.members[model].output

    def _output_tensor(self, model: str) -> dict[str, Any]:
        member = self._spec.members.get(model)
        found = None if member is None else self.engine.output(model)
        if found is None:  # the fusion's own, or of a member that no replica has run yet
            classes = self._spec.classes if member is None else member.classes or self._spec.classes
            has_classes = member is None or member.output in ("logits", "probabilities")
            found = "FP32", (len(classes) if classes and has_classes else -1,)
        return {"name": self._output(model), "datatype": found[0], "shape": [-1, *found[1]]}

    def _check_inputs(self, request: InferRequest, spec: EnsembleSpec) -> None:
        expected = spec.inputs if request.model == spec.name else spec.members[request.model].inputs
        for name in request.inputs:
            if name not in expected:
                raise RequestError(
                    f"unexpected inference input '{name}' for model '{request.model}'; it reads {', '.join(expected)}"
                )
        rows: int | None = None
        for name in expected:
            if name not in request.inputs:
                raise RequestError(
                    f"expected {len(expected)} inputs but '{name}' is missing for model '{request.model}'; add it"
                )
            array = request.inputs[name]
            _check_tensor(name, array, spec.inputs[name])
            if rows is not None and len(array) != rows:
                raise RequestError(
                    f"input '{name}' has {len(array)} rows but others have {rows}; give each the same batch size"
                )
            rows = len(array)
        if not rows or rows > MAX_ROWS:
            raise RequestError(f"the batch has {rows} rows; give 1 to {MAX_ROWS}")

    def _members(self, parameters: Mapping[str, Scalar]) -> tuple[str, ...] | None:
        asked = parameters.get("members")
        if asked is None:
            return None
        if not isinstance(asked, str):
            raise RequestError(f"parameter members is {asked!r}; give names with commas between them")
        names = tuple(dict.fromkeys(name.strip() for name in asked.split(",")))
        fused = self.engine.revision.asked
        for name in names:
            if name not in fused:
                raise RequestError(
                    f"parameter members names '{name}', which is not fused; choose from {', '.join(fused)}"
                )
        return names


def clip(sentence: str) -> str:
    """An error's text short enough for every wire, gRPC's 8 KiB of trailers with %XX for each byte included."""
    return sentence.encode()[:MAX_ERROR_BYTES].decode(errors="ignore")


def _check_tensor(name: str, array: Array, spec: TensorSpec) -> None:
    if array.dtype != numpy_dtype(spec.datatype):
        raise RequestError(f"input '{name}' has datatype {datatype_of(array)}; the model reads {spec.datatype}")
    shape = array.shape[1:]
    fits = array.ndim == len(spec.shape) + 1 and (
        shape == spec.shape or all(s in (-1, got) for s, got in zip(spec.shape, shape, strict=True))
    )
    if not fits:
        expected = [-1, *spec.shape]
        raise RequestError(f"input '{name}' has shape {list(array.shape)}; the model reads {expected}, rows first")


def _deadline_s(request: InferRequest) -> float | None:
    """The soonest of the deadlines that the client gave."""
    if not request.parameters:
        return request.deadline_s
    deadlines = [] if request.deadline_s is None else [request.deadline_s]
    for key, per_second in (("deadline_ms", 1e3), ("timeout", 1e6)):
        value = request.parameters.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value) or value < 0:
            raise RequestError(f"parameter {key} is {value!r}; give a number >= 0")
        if value > 0:  # Triton reads a timeout of 0 as none
            deadlines.append(value / per_second)
    return min(deadlines, default=None)


def _priority(parameters: Mapping[str, Scalar]) -> int:
    """As in Triton, 1 is the highest; 0, and what there is no level for, is the default."""
    value = parameters.get("priority", 0)
    if type(value) is not int or value < 0:
        raise RequestError(f"parameter priority is {value!r}; give 1 (highest) to {PRIORITY_LEVELS}, or 0")
    return value if 1 <= value <= PRIORITY_LEVELS else DEFAULT_PRIORITY


def _flag(parameters: Mapping[str, Scalar], key: str) -> bool:
    value = parameters.get(key, False)
    if not isinstance(value, bool):
        raise RequestError(f"parameter {key} is {value!r}; give true or false")
    return value
