"""The types that fields of the spec share."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
)

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64",
    "BYTES",
]  # fmt: skip
Output = Literal["logits", "probabilities", "features", "values"]
Task = Literal["classification", "binary", "multilabel", "regression", "quantiles", "ranking", "tagging", "tokens"]
NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,62}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
# What Python has of a class list of digits are numbers; a file gives their text.
ClassName = Annotated[
    str,
    BeforeValidator(lambda v: str(v) if type(v) in (int, float) else v),
    Field(min_length=1),
    # An editor does not see the text of a scalar, but what YAML takes it for.
    WithJsonSchema({"type": ["string", "number", "boolean", "null"], "minLength": 1}),
]
Placement = Literal["auto", "apart", "together"]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=1, le=100_000)]
# YAML reads the place of an output in a tuple as a number.
OutputName = Annotated[str, BeforeValidator(lambda v: str(v) if type(v) is int else v), Field(min_length=1)]


class Frozen(BaseModel):
    """A part of the spec: it does not change, and has no key that is not known."""

    # Infinity in a factory's config stays what it is, on its way to a replica too.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")
    # Fields that came after names of revisions and applications were made of those before: with their defaults they are
    # in no dump, so that names stay what they were, and an older version reads what it knows.
    later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = dump(self)
        for name in self.later & data.keys():
            if getattr(self, name) == type(self).model_fields[name].get_default(call_default_factory=True):
                del data[name]
        return data
