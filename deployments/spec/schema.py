"""The spec: one file that says everything about an ensemble, as frozen models.

The graph is the ``inputs`` lists: a member reads request inputs, other members, or fusions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import Field, model_validator

from quorate.deployments.spec.fields.drift import DriftSpec
from quorate.deployments.spec.fields.fusion import FusionSpec
from quorate.deployments.spec.fields.online import OnlineSpec
from quorate.deployments.spec.fields.preprocess import PreprocessSpec
from quorate.deployments.spec.fields.record import RecordSpec
from quorate.deployments.spec.fields.types import (
    ClassName,
    Count,
    Datatype,
    Digest,
    Frozen,
    Name,
    Output,
    OutputName,
    Placement,
    Seconds,
    Task,
)
from quorate.fusion.registry import RULES

S = TypeVar("S", bound="EnsembleSchema")


def with_input_names(member: Any) -> Any:
    """Of a mapping under a member's ``inputs``, by the model's names, make the list and ``input_names`` of it."""
    read = member.get("inputs") if isinstance(member, Mapping) else None
    if not isinstance(read, Mapping) or not all(isinstance(source, str) for source in read.values()):
        return member
    called = {source: theirs for theirs, source in read.items()}
    return {**member, "inputs": list(read.values()), "input_names": {**member.get("input_names", {}), **called}}


class TensorSpec(Frozen):
    """One request input.

    Attributes:
        shape: one row's, without the batch dimension; -1 is a free dimension.
        example: what models are tried on before anybody asks, zeros of free dimensions 1 when left out: the shape of a
            row, such as ``[16000]``; or the path of a file, which is one element of BYTES, such as an image, or has
            rows of numbers, of which the first is taken, such as ``.npy``, ``.npz`` or ``.json``.

    A datatype alone, ``age: FP32``, is one of shape []: a column of a table. What is missing is NaN in FP16, BF16, FP32
    and FP64, and the empty string in BYTES; integers and BOOL have no missing values.
    """

    datatype: Datatype
    shape: tuple[Annotated[int, Field(ge=-1, le=2**31)], ...]
    example: tuple[Annotated[int, Field(ge=1, le=2**31)], ...] | Annotated[str, Field(min_length=1)] | None = None

    @property
    def example_shape(self) -> tuple[int, ...]:
        """The shape of a row that models are tried on."""
        return self.example if isinstance(self.example, tuple) else tuple(1 if s == -1 else s for s in self.shape)

    @model_validator(mode="before")
    @classmethod
    def _of_a_datatype_alone(cls, data: Any) -> Any:
        return {"datatype": data, "shape": ()} if isinstance(data, str) else data


class Resources(Frozen):
    """What one replica holds. ``num_gpus`` below 1 shares a GPU; ``labels`` select nodes by Ray node label."""

    num_gpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    num_cpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.5
    accelerator_type: Annotated[str, Field(min_length=1)] | None = None
    labels: dict[str, str] = Field(default_factory=dict)


class Replicas(Frozen):
    """How many, and how long more or fewer must have been wanted before Serve starts or stops one."""

    min: Count = 1
    max: Count = 1
    upscale_delay_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5.0
    downscale_delay_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 600.0


class MemberSpec(Frozen):
    """One model.

    Attributes:
        model: ``package.module:factory`` (called with ``config``; returns an ``nn.Module`` or any callable on arrays),
            or what another format names: see ``model_formats``.
        config: the factory's arguments. A text with a slash or a dot that is the path of something in the spec's folder
            reaches it as an absolute path, and what is there is part of the revision.
        weights: a safetensors file, or a checkpoint of torch.save without pickles, for the module that the factory
            returns.
        digest: ``sha256:<hex>`` of the weights file, or of the model file where there are no weights.
        inputs: what it reads: request inputs, other members, fusions, or ``all`` inputs of the request. As a mapping,
            ``{input_ids: tokens}``, it says first what the model itself calls each of them.
        input_names: the same, by what is read, as ``inputs`` says it when it is a mapping.
        preprocess: a step before the model, for each input that has one.
        output_name: which of several outputs is the member's: a key of a dict, a field of a ModelOutput, a named tuple
            or a dataclass, an output of an ONNX file, or the place in a tuple, from 0. Left out, it is the only one, or
            the one called as ``output`` says.
        classes: class names in the order of the member's output columns; those that the model itself has, or the
            ensemble's, when left out.
        stall_timeout_s: a replica whose inference makes no progress for this long is replaced.
        max_memory_bytes: a replica that keeps more in memory (resident, as ``ps`` shows it) is replaced, after it has
            answered what it has; without end when left out.
        python: the interpreter of another environment that runs the model, where its libraries clash with others': an
            absolute path, the same on every node. Quorate is installed there too.
        share: run once for all ensembles that have this member, the same in name, files, inputs, classes and settings.
        stack: run members of one architecture that share a process as one batched forward pass: where that changes no
            bit of an answer and is faster when left out; always where true, and answers may differ in their last bits
            from those of one by one; never where false.
    """

    later: ClassVar[frozenset[str]] = frozenset({"python", "stack"})

    model: Annotated[str, Field(min_length=1)]
    config: dict[str, Any] = Field(default_factory=dict)
    weights: Annotated[str, Field(min_length=1)] | None = None
    digest: Digest | None = None
    inputs: Annotated[tuple[Name, ...], Field(min_length=1)]
    input_names: dict[Name, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    preprocess: dict[Name, PreprocessSpec] = Field(default_factory=dict)
    output: Output = "logits"
    output_name: OutputName | None = None
    classes: tuple[ClassName, ...] | None = None
    resources: Resources = Resources()
    replicas: Replicas = Replicas()
    max_batch_size: Count = 64
    stall_timeout_s: Seconds = 60.0
    max_memory_bytes: Annotated[int, Field(gt=0)] | None = None
    python: Annotated[str, Field(min_length=1)] | None = None
    share: bool = False
    stack: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_named_inputs(cls, data: Any) -> Any:
        return with_input_names(data)

    @property
    def model_inputs(self) -> tuple[str, ...]:
        """What the model calls each of its inputs, as far as the spec says it."""
        return tuple(self.input_names.get(source, source) for source in self.inputs)


def token_input(member: MemberSpec, lengths: str | None) -> str | None:
    """The source whose second dimension are the tokens that a member classifies: the first that is not their number."""
    return next((name for name in member.inputs if name != lengths), None)


class Serving(Frozen):
    """The fusion replicas.

    Attributes:
        replicas: how many on each node that has doors.
        resources: what each of them holds; nodes that can hold one get doors.
        max_batch_size: rows that are sent to the members together.
        max_queued_rows: that wait for a batch, and that one replica of a member has not answered yet: beyond that
            requests are refused, and the member is shed.
        max_queued_bytes: the same for the size of their inputs; rows of images reach this one first.
        max_request_bytes: what all requests to one replica may hold together, from their first byte until they are
            answered; an eighth of the memory that the replica may use when left out.
    """

    replicas: Replicas = Replicas()
    resources: Resources = Resources()
    max_batch_size: Count = 64
    max_queued_rows: Count = 4096
    max_queued_bytes: Annotated[int, Field(ge=1, le=1 << 40)] = 1 << 29
    max_request_bytes: Annotated[int, Field(ge=1 << 20)] | None = None


class MemberJob(Frozen):
    """All that a member's replicas need to know: when this stays the same, nothing restarts.

    Attributes:
        digests: of the member's files and code, by field; see ``EnsembleSchema``.
        of_tokens: its classes are of each token, which are the second dimension of its first input but ``lengths``.
        lengths: the input that says how many tokens a row has, where it reads that.
    """

    ensemble: Name
    name: Name
    member: MemberSpec
    inputs: dict[Name, TensorSpec]
    classes: tuple[ClassName, ...] | None = None
    digests: dict[str, Digest] = Field(default_factory=dict)
    of_tokens: bool = False
    lengths: Name | None = None

    @classmethod
    def written(cls, jobs: Sequence[MemberJob]) -> str:
        """Those of one process as JSON; of a single one by itself, as it was before processes were shared."""
        texts = [job.model_dump_json() for job in jobs]
        return texts[0] if len(texts) == 1 else json.dumps([json.loads(text) for text in texts])

    @classmethod
    def read(cls, text: str) -> list[MemberJob]:
        """What ``written`` gave."""
        found = json.loads(text)
        return [cls.model_validate(job) for job in (found if isinstance(found, list) else [found])]


class EnsembleSchema(Frozen):
    """The fields of an ensemble's spec, each of its type; ``ensemble.EnsembleSpec`` checks what they say together.

    Attributes:
        task: what is asked; where it is left out, what members give says it, but for several labels a row and tokens.
            ``tokens`` are classes of each token of a row, ``tagging`` those that say spans as well (O, B-x, I-x).
        lengths: the request input that says how many tokens each row has; as many as the tensor holds when left out.
        quantiles: the levels that members predict, of the task of this name, ascending.
        output: the fusion whose value is the answer; the last when left out.
        outputs: several instead, each with its own rule, members, deadline, classes, task and quantiles.
        placement: members have a process each (``apart``), share processes (``together``), inside of the fusion replica
            those whose pass is shorter than a message, or as they were measured when it is deployed (``auto``).
        together: lists of members that share a process, whatever ``placement`` says.
        apart: members that have a process of their own, whatever ``placement`` says.
        record: what is kept of answers, and where; nothing when left out.
        online: whether weights learn from the labels of recorded answers, and go live by themselves.
        shadow_share: of a spec that is made a shadow, the share of the requests that members which the live revision
            does not ask are asked for.
        drift: what is watched of answers, and who is told; nothing when left out.
        digests: of the files that the spec names and of its factories' code, by field. Filled when it is deployed.
    """

    # What places members, or is done beside answers: it changes no answer and no door.
    beside: ClassVar[frozenset[str]] = frozenset(
        {"placement", "together", "apart", "record", "online", "shadow_share", "drift"}
    )
    later: ClassVar[frozenset[str]] = frozenset({"task", "lengths", "quantiles", *beside})

    name: Name
    task: Task | None = None
    inputs: Annotated[dict[Name, TensorSpec], Field(min_length=1)]
    lengths: Name | None = None
    classes: tuple[ClassName, ...] | None = None
    quantiles: tuple[float, ...] | None = None
    members: Annotated[dict[Name, MemberSpec], Field(min_length=1)]
    fusion: FusionSpec | None = None
    fusions: dict[Name, FusionSpec] = Field(default_factory=dict)
    output: Name | None = None
    outputs: tuple[Name, ...] = ()
    serving: Serving = Serving()
    placement: Placement = "apart"
    together: tuple[Annotated[tuple[Name, ...], Field(min_length=2)], ...] = ()
    apart: tuple[Name, ...] = ()
    record: RecordSpec | None = None
    online: OnlineSpec = OnlineSpec()
    shadow_share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    drift: DriftSpec | None = None
    digests: dict[str, Digest] = Field(default_factory=dict)

    @property
    def of_tokens(self) -> bool:
        """Whether a row's answer has a row for each of its tokens."""
        return self.task in ("tagging", "tokens")

    @property
    def inferred_task(self) -> Task:
        """The task, or what members give where it is left out."""
        if self.task is not None:
            return self.task
        if self.quantiles is not None:
            return "quantiles"
        if RULES[self.output_fusion.rule].lists:
            return "ranking"
        outputs = {self.members[name].output for name in self.output_fusion.members}
        return "regression" if outputs == {"values"} else "classification"

    @property
    def all_fusions(self) -> dict[str, FusionSpec]:
        """Every fusion by name; the one under ``fusion`` is called ``fused``."""
        return {"fused": self.fusion} if self.fusion else dict(self.fusions)

    @property
    def output_name(self) -> str:
        """The fusion whose value is the answer; of several the first."""
        return self.output or next(iter(self.outputs), None) or next(reversed(self.all_fusions))

    @property
    def output_names(self) -> tuple[str, ...]:
        """The fusions whose values are the answer."""
        return self.outputs or (self.output_name,)

    def view(self: S, output: str) -> S:
        """The same spec with this one output: what that is fused from, and what it has of its own."""
        if not self.outputs:
            return self.model_copy(update={"output": output})
        fusion, read = self.fusions[output], self.upstream(output) | {output}
        given = {self.members[name].output for name in fusion.members if name in self.members}
        update: dict[str, Any] = {"output": output, "outputs": (), "task": fusion.task, "quantiles": fusion.quantiles}
        update["classes"] = fusion.classes or (None if given == {"values"} else self.classes)
        update["fusions"] = {name: one for name, one in self.fusions.items() if name in read}
        return self.model_copy(update=update)

    @property
    def output_fusion(self) -> FusionSpec:
        return self.all_fusions[self.output_name]

    def field_of(self, fusion: str) -> str:
        """Where a fusion stands in the spec, for errors."""
        return "fusion" if self.fusion else f"fusions.{fusion}"

    def sources(self, node: str) -> tuple[str, ...]:
        """What a member or a fusion reads: request inputs, members, fusions."""
        return self.members[node].inputs if node in self.members else self.all_fusions[node].members

    def upstream(self, node: str) -> frozenset[str]:
        """The members and fusions that one reads, directly or not; of a graph without a cycle."""
        near = [source for source in self.sources(node) if source in self.members or source in self.all_fusions]
        return frozenset(near).union(*(self.upstream(source) for source in near))
