"""What a step before a model may be given."""

from __future__ import annotations

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.fields.preprocess import PreprocessSpec
from quorate.deployments.spec.model_formats import format_of
from quorate.deployments.spec.schema import EnsembleSchema, MemberSpec, TensorSpec
from quorate.deployments.spec.suggestions import suggest

_INTEGERS = ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")
_CONTENT = "BYTES with shape: []"
# By step the datatypes that it reads, and how a fix says so.
_READS = {
    "tokenizer": (("BYTES",), _CONTENT),
    "image": (("BYTES", "UINT8"), f"{_CONTENT}, or UINT8 with shape: [-1, -1, 3]"),
    "standardise": ((*_INTEGERS, "FP16", "BF16", "FP32", "FP64"), "a datatype of numbers"),
    "one_hot": (("BYTES", *_INTEGERS), f"{_CONTENT}, or whole numbers"),
    "categories": (("BYTES", *_INTEGERS), f"{_CONTENT}, or whole numbers"),
}


def check_preprocess(spec: EnsembleSchema, field: str, member: MemberSpec) -> None:
    """Raise SpecError for the first step that its input does not fit.

    Args:
        field: of the member.
    """
    known = format_of(member.model)
    if member.preprocess and known.media:
        found = f"{known.scheme}: members make their inputs ready themselves, as their models say"
        raise SpecError(f"{field}.preprocess", found, "remove it")
    for name, step in member.preprocess.items():
        where = f"{field}.preprocess.{name}"
        if name not in member.inputs:
            raise SpecError(where, "the member has no such input", suggest(name, member.inputs))
        _check_step(where, step)
        if name in spec.inputs:
            _check_tensor(where, step, name, spec.inputs[name])
        elif step.step != "standardise":
            raise SpecError(where, f"'{name}' is no request input but a member's numbers", "use standardise")


def _check_step(where: str, step: PreprocessSpec) -> None:
    found = step.one_hot or step.categories or ()
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise SpecError(f"{where}.{step.step}", f"{', '.join(twice)} is listed twice", "name each category once")


def _check_tensor(where: str, step: PreprocessSpec, name: str, tensor: TensorSpec) -> None:
    datatypes, wanted = _READS[step.step]
    one = step.step in ("tokenizer", "one_hot", "categories") or tensor.datatype == "BYTES"
    pixels = step.step == "image" and tensor.datatype == "UINT8"
    fits = not (one and tensor.shape not in ((), (1,))) and not (pixels and len(tensor.shape) not in (2, 3))
    if tensor.datatype not in datatypes or not fits:
        found = f"'{name}' is {tensor.datatype} {list(tensor.shape)}, and {step.step} cannot read that"
        raise SpecError(where, found, f"let it be {wanted}, or remove the step")
