"""Whether what a model's file reads is what the spec gives its member: names, sizes and types of inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.model_files.exact_casts import is_exact
from quorate.deployments.spec.model_files.export_files import read_export
from quorate.deployments.spec.model_files.file_input import FileInput
from quorate.deployments.spec.model_files.input_names import places_of
from quorate.deployments.spec.model_files.onnx_files import OnnxFileError, read_onnx
from quorate.deployments.spec.schema import MemberSpec, TensorSpec

Takes = Callable[[str, str], bool]
_CAST = ("FP16", "BF16", "FP32")  # to each other, for a program of torch.export


def check_onnx_inputs(name: str, member: MemberSpec, inputs: Mapping[str, TensorSpec], path: Path) -> None:
    """Refuse an ONNX file that reads something else; what other members give cannot be known yet.

    Args:
        name: the member's.
        inputs: of the request.

    Raises:
        SpecError: says what the file reads.
    """
    try:
        reads = read_onnx(path).inputs
    except OnnxFileError as error:
        raise SpecError(f"members.{name}.model", str(error), "export it again") from None
    if _tokenizes(member):
        return
    if _is_matrix(member, reads):
        read = next(iter(reads.values()))
        columns = dict.fromkeys(member.inputs, FileInput(read.datatype, None))
        _check(columns, _as_they_are(member, inputs), path.name, is_exact)
        return
    single = len(reads) == len(member.inputs) == 1 and not member.input_names
    if not single and places_of([*reads], member.model_inputs) is None:
        raise _other_inputs(name, member, reads, path)
    _check(_by_source(member, reads), _as_they_are(member, inputs), path.name, is_exact)


def check_export_inputs(name: str, member: MemberSpec, inputs: Mapping[str, TensorSpec], path: Path) -> None:
    """The same of a program of torch.export, whose inputs may have other names."""
    reads = read_export(path)
    if reads is None or _tokenizes(member):
        return
    by_order = len(reads) == len(member.inputs) and not member.input_names
    if not by_order and not set(reads) <= set(member.model_inputs):
        raise _other_inputs(name, member, reads, path)
    as_they_are = _as_they_are(member, inputs)
    _check(_by_source(member, reads), as_they_are, path.name, lambda a, b: a == b or {a, b} <= {*_CAST})


def _is_matrix(member: MemberSpec, reads: Mapping[str, FileInput]) -> bool:
    """Whether a file reads one matrix, of which the member's inputs are the columns."""
    if len(reads) != 1 or len(member.inputs) == 1 or member.input_names or places_of([*reads], member.inputs):
        return False
    sizes = next(iter(reads.values())).sizes
    return sizes is not None and len(sizes) == 2


def _tokenizes(member: MemberSpec) -> bool:
    """Whether the model gets several tensors for one input, whose names only the tokenizer knows."""
    return any(step.tokenizer is not None for step in member.preprocess.values())


def _as_they_are(member: MemberSpec, inputs: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    """Inputs that reach the model without a step before it, which makes others of them."""
    return {name: tensor for name, tensor in inputs.items() if name not in member.preprocess}


def _other_inputs(name: str, member: MemberSpec, reads: Mapping[str, FileInput], path: Path) -> SpecError:
    listed = ", ".join(f"{one} ({read})" for one, read in reads.items())
    found = f"{path.name} reads {listed}, and the member {', '.join(member.model_inputs)}"
    alike = [one for one in reads if one in member.inputs]
    others = iter([source for source in member.inputs if source not in alike])
    pairs = ", ".join(f"{one}: {one if one in alike else next(others, '...')}" for one in reads)
    return SpecError(f"members.{name}.inputs", found, f"say which is which, the file's name first: {{{pairs}}}")


def _by_source(member: MemberSpec, reads: Mapping[str, FileInput]) -> dict[str, FileInput]:
    """What the file reads of each of the member's sources: by its name, or in their order."""
    places = places_of([*reads], member.model_inputs)
    if places is not None:
        return {member.inputs[place]: read for place, read in zip(places, reads.values(), strict=True)}
    return dict(zip(member.inputs, reads.values(), strict=True))


def _check(reads: Mapping[str, FileInput], inputs: Mapping[str, TensorSpec], file: str, takes: Takes) -> None:
    for name, read in reads.items():
        tensor = inputs.get(name)
        if tensor is None:
            continue
        if not takes(tensor.datatype, read.datatype):
            found = f"{tensor.datatype}, and {file} reads {read}"
            raise SpecError(f"inputs.{name}.datatype", found, f"write datatype: {read.datatype}")
        row = _row(tensor, read)
        if row is not None and not _fits(tensor.shape, row):
            found = f"{list(tensor.shape)}, and {file} reads {read}"
            raise SpecError(f"inputs.{name}.shape", found, f"write shape: {list(row)}")


def _row(tensor: TensorSpec, read: FileInput) -> tuple[int, ...] | None:
    """Sizes of a row as the file has it, -1 where one is free; None where it does not say."""
    if read.sizes is None:
        return None
    row = tuple(-1 if size is None else size for size in read.sizes[1:])
    return () if not tensor.shape and row == (1,) else row  # one number a row is a column


def _fits(shape: tuple[int, ...], row: tuple[int, ...]) -> bool:
    return len(shape) == len(row) and all(-1 in (a, b) or a == b for a, b in zip(shape, row, strict=True))
