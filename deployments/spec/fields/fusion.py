"""A fusion as the spec describes it: its rule, members and terms, and what is made of the fused values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from quorate.deployments.spec.fields.types import ClassName, Frozen, Name, Seconds, Task

DEADLINE_S = 1.0  # of a fusion that gives none


class Hedge(Frozen):
    """Send a batch that is later than this percentile of recent calls to a second replica."""

    after: Annotated[str, Field(pattern=r"^p(50|[5-9][0-9])$")]


class CalibrationSpec(Frozen):
    """softmax(scale * log q + bias) with q = (1 - floor) p + floor / C, see ``quorate.fusion.Calibration``.

    Numbers of classes go by their names.

    Attributes:
        floor: the share of each row that all classes get alike, for members that say exactly 0.
        temperature: 1 / scale, for all classes.
        scale: by class (vector scaling).
        bias: by class.
        state: instead of numbers here a safetensors file of ``scale`` and ``bias``, in the order of the classes.
    """

    floor: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] | None = None
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    scale: dict[ClassName, float] | None = None
    bias: dict[ClassName, float] | None = None
    state: Annotated[str, Field(min_length=1)] | None = None


class DecisionSpec(Frozen):
    """What follows from the fused probabilities.

    Attributes:
        thresholds: one for all classes, or by class: the answer is 1 for each class that reaches its own, else 0.
        reject_below: a row whose largest probability is less abstains.
    """

    thresholds: Annotated[float, Field(allow_inf_nan=False)] | dict[ClassName, float] | None = None
    reject_below: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class ConformalThreshold(Frozen):
    """What belongs to the set, or how far the interval reaches, where exactly these members answered.

    Attributes:
        threshold: a class belongs whose probability is 1 - threshold at least, one for all classes or by class; an
            interval reaches so far to either side of the value (one for each of several), so many standard deviations
            where members give variances, or beyond the outer quantiles, of which it may also leave some out, below 0.
    """

    members: Annotated[tuple[Name, ...], Field(min_length=1)]
    threshold: (
        Annotated[float, Field(allow_inf_nan=False)]
        | dict[ClassName, float]
        | tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...]
    )


class ConformalSpec(Frozen):
    """Sets of classes, or intervals of values, that hold the truth with this probability, beside the answer.

    Attributes:
        coverage: the probability, over rows like those that thresholds were fitted on.
        by_class: it holds for the rows of each class.
        thresholds: fitted by ``quorate tune``, for each set of members that may be left; rows that others answered
            get no set.
    """

    coverage: Annotated[float, Field(gt=0, lt=1)]
    by_class: bool = False
    thresholds: tuple[ConformalThreshold, ...] = ()


class ThinningStep(Frozen):
    """One member more is not asked.

    Attributes:
        without: the member.
        expected: metrics of the answers of those that are left, on rows held out.
    """

    without: Name
    expected: dict[str, float] = Field(default_factory=dict)


class ThinningSpec(Frozen):
    """In which order members are left out under too much load, and what that costs; ``quorate tune`` finds both.

    Attributes:
        expected: metrics while all are asked.
        steps: each with those before it; members that are not named go behind them, the least weight for its time
            first.
    """

    expected: dict[str, float] = Field(default_factory=dict)
    steps: tuple[ThinningStep, ...] = ()


def _by_share(to: Any) -> Any:
    """A class alone is all that another one is answered as."""
    return to if isinstance(to, Mapping) else {to: 1.0}


# What a class is answered as: another class, or several by their shares.
_Relabelled = Annotated[
    dict[ClassName, Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]],
    BeforeValidator(_by_share),
    Field(min_length=1),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "object", "additionalProperties": {"type": "number", "exclusiveMinimum": 0, "maximum": 1}},
                {"type": ["string", "number", "boolean", "null"], "minLength": 1},
            ]
        }
    ),
]


class FusionSpec(Frozen):
    """A rule over members, and how long and for whom it waits.

    Attributes:
        members: whose outputs it reads; every member that nothing else reads when left out.
        classes: of one of several outputs; the ensemble's when left out.
        task, quantiles: of one of several outputs, as the ensemble's are of its only one.
        options: the rule's own settings.
        state: a safetensors file with the parameters of a learned rule.
        member_calibration: of members' probabilities before they are fused. It stands here, not with the member:
            other numbers are another revision, and no member restarts.
        calibration: of the fused probabilities.
        relabel: of those, by class what it is called now: what members say of ``old`` is answered as ``new``
            (``{old: new}``), or by shares as several (``{old: {new: 0.98, old: 0.02}}``). For labels that have changed,
            until members are trained on them; ``online`` finds it by itself.
        decision: taken on those last.
        conformal: what is said beside them of how sure they are.
        deadline_s: an answer is due this long after the request arrived; a fusion that members read closes then, by
            its share of the answer's deadline when left out.
        quorum: the fewest members a row is fused from.
        required: members without which there is no answer.
        overload: under more load than members can take answers wait for them as ever (``shed``), or fewer members are
            asked, down to the quorum (``thin``).
        thinning: who is left out first.
    """

    later: ClassVar[frozenset[str]] = frozenset({"task", "quantiles", "overload", "thinning", "relabel"})

    rule: Annotated[str, Field(min_length=1)]
    members: tuple[Name, ...] = ()
    classes: tuple[ClassName, ...] | None = None
    task: Task | None = None
    quantiles: tuple[float, ...] | None = None
    weights: dict[Name, float] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    state: Annotated[str, Field(min_length=1)] | None = None
    member_calibration: dict[Name, CalibrationSpec] = Field(default_factory=dict)
    calibration: CalibrationSpec | None = None
    relabel: dict[ClassName, _Relabelled] = Field(default_factory=dict)
    decision: DecisionSpec | None = None
    conformal: ConformalSpec | None = None
    deadline_s: Seconds = DEADLINE_S
    quorum: Annotated[int, Field(ge=1)] = 1
    required: tuple[Name, ...] = ()
    hedge: Hedge | None = None
    overload: Literal["shed", "thin"] = "shed"
    thinning: ThinningSpec = ThinningSpec()
