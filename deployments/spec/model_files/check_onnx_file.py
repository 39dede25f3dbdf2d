"""Whether what an ONNX file reads is what the spec gives its member: names, sizes and types of inputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.model_files.exact_casts import is_exact
from quorate.deployments.spec.model_files.onnx_files import OnnxFileError, OnnxInput, read_onnx
from quorate.deployments.spec.schema import MemberSpec, TensorSpec


def check_onnx_file(name: str, member: MemberSpec, inputs: Mapping[str, TensorSpec], path: Path) -> None:
    """Refuse a file that reads something else; what other members give cannot be known yet.

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
    sources = list(member.inputs)
    if len(reads) == len(sources) == 1:  # which may have another name
        reads = dict(zip(sources, reads.values(), strict=True))
    if set(reads) != set(sources):
        listed = ", ".join(f"{one} ({read})" for one, read in reads.items())
        found = f"{path.name} reads {listed}, and the member {', '.join(sources)}"
        raise SpecError(f"members.{name}.inputs", found, "call what the member reads as the file does")
    for source in (source for source in sources if source in inputs):
        _check_input(source, inputs[source], reads[source], path.name)


def _check_input(name: str, tensor: TensorSpec, read: OnnxInput, file: str) -> None:
    if not is_exact(tensor.datatype, read.datatype):
        found = f"{tensor.datatype}, and {file} reads {read}, which does not hold every such value"
        raise SpecError(f"inputs.{name}.datatype", found, f"write datatype: {read.datatype}")
    if read.sizes is None:
        return
    sizes = read.sizes[1:] if (len(tensor.shape), read.sizes[1:]) != (0, (1,)) else ()  # one number a row is a column
    fits = len(sizes) == len(tensor.shape) and all(
        -1 in (a, b) or a == b for a, b in zip(tensor.shape, (-1 if s is None else s for s in sizes), strict=True)
    )
    if not fits:
        row = [-1 if size is None else size for size in sizes]
        raise SpecError(f"inputs.{name}.shape", f"{list(tensor.shape)}, and {file} reads {read}", f"write shape: {row}")
