"""ONNX files, run by ONNX Runtime: inputs by name, the output that the spec means, classes by the file's own names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quorate.deployments.sources.model import Model
from quorate.deployments.sources.outputs import OutputError, choose
from quorate.deployments.sources.request import LoadRequest
from quorate.deployments.spec.model_files.exact_casts import is_exact
from quorate.deployments.spec.model_files.fixed_batch import fixed_batch
from quorate.deployments.spec.model_files.input_names import places_of
from quorate.deployments.spec.model_files.onnx_files import OnnxFileError, read_onnx
from quorate.deployments.wire.datatypes import name_of, numpy_dtype

Array = NDArray[Any]

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
# The protocol's names of what ONNX Runtime calls tensor(...).
_DATATYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16", "bfloat16": "BF16", "float": "FP32",
    "double": "FP64", "string": "BYTES",
}  # fmt: skip


def load(request: LoadRequest) -> Model:
    """Load the file into a session of the member's device."""
    try:
        file = read_onnx(request.path)
    except (OnnxFileError, OSError) as error:
        raise request.error(f"{request.path.name} cannot be loaded: {error}", "export it again") from None
    session, device = _session(request)
    readers = _readers(request, session.get_inputs())
    outputs = {node.name: f"{datatype_of(node.type)} {_sizes(node.shape)}" for node in session.get_outputs()}
    try:
        wanted = choose(outputs, request.spec)
    except OutputError as error:
        raise request.error(error.found, error.fix) from None

    def run(*arrays: Array) -> dict[str, Any]:
        columns = {name: read(arrays) for name, read in readers.items()}
        return {wanted: session.run([wanted], columns)[0]}

    batch = fixed_batch(request.path)
    return request.model(run, tensors=False, classes=file.classes, device=device, batch=batch)


def _session(request: LoadRequest) -> tuple[Any, torch.device]:
    """A session, and the device it runs on: the CPU where the installed ONNX Runtime knows no GPU."""
    try:
        import onnxruntime
    except ImportError:
        raise request.error("onnxruntime is not installed", "pip install 'quorate[onnx]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, int(request.spec.resources.num_cpus))
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors: what it warns of is about the export
    on_gpu = request.device.type == "cuda" and _CUDA in onnxruntime.get_available_providers()
    gpu = [(_CUDA, {"device_id": request.device.index or 0})] if on_gpu else []
    try:
        session = onnxruntime.InferenceSession(str(request.path), options, providers=[*gpu, _CPU])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise request.error(f"{request.path.name} cannot be loaded: {error}", "check the file") from None
    return session, request.device if on_gpu else torch.device("cpu")


def _readers(request: LoadRequest, nodes: Sequence[Any]) -> dict[str, Callable[[Sequence[Array]], Array]]:
    """By each of the file's inputs what takes it out of the member's, which are bound by their names.

    One input alone may be called otherwise, and where it is a matrix, all of the member's are its columns.
    """
    names, wanted = [node.name for node in nodes], request.preprocessing.names
    single = len(names) == len(wanted) == 1 and not request.spec.input_names
    matrix = len(names) == 1 < len(wanted) and len(nodes[0].shape) == 2
    if matrix and not request.spec.input_names and places_of(names, wanted) is None:
        return {names[0]: _matrix_reader(nodes[0])}
    found = [0] if single else places_of(names, wanted)
    if found is None:
        known = ", ".join(f"{node.name} ({datatype_of(node.type)} {_sizes(node.shape)})" for node in nodes)
        lacks = f"{request.path.name} reads {known}, and the member {', '.join(wanted)}"
        raise request.error(lacks, f"say which is which: inputs: {{{names[0]}: {wanted[0]}, ...}}")
    return {node.name: _reader(place, node) for place, node in zip(found, nodes, strict=True)}


def _reader(place: int, node: Any) -> Callable[[Sequence[Array]], Array]:
    datatype = datatype_of(node.type)
    column = len(node.shape) == 2 and node.shape[1] == 1

    def read(arrays: Sequence[Array]) -> Array:
        array = _cast(arrays[place], datatype, node.name)
        return array[:, np.newaxis] if column and array.ndim == 1 else array

    return read


def _matrix_reader(node: Any) -> Callable[[Sequence[Array]], Array]:
    """What makes one matrix of columns, in their order."""
    datatype, size = datatype_of(node.type), node.shape[1]

    def read(arrays: Sequence[Array]) -> Array:
        columns = [_cast(array.reshape(len(array), -1), datatype, node.name) for array in arrays]
        found = np.concatenate(columns, axis=1)
        if isinstance(size, int) and found.shape[1] != size:
            raise ValueError(f"the member's inputs have {found.shape[1]} columns a row, and the file reads {size}")
        return found

    return read


def _cast(array: Array, datatype: str, name: str) -> Array:
    """The array in the type that the file asks for, where that has a place for every number of its own type.

    Raises:
        TypeError: it has not.
    """
    if datatype == "BYTES" and array.dtype == object:
        texts = [item.decode() if isinstance(item, bytes) else item for item in array.ravel()]
        return np.array(texts, dtype=object).reshape(array.shape)
    given = name_of(array.dtype)
    if given == datatype:
        return array
    if not is_exact(given, datatype):
        raise TypeError(f"the file's input '{name}' is {datatype}, and gets {given}; make them one")
    return array.astype(numpy_dtype(datatype))


def datatype_of(kind: str) -> str:
    """``tensor(float)`` as the protocol calls it; what is no tensor as it is."""
    return _DATATYPES.get(kind.removeprefix("tensor(").removesuffix(")"), kind)


def _sizes(shape: Sequence[int | str | None]) -> list[int]:
    return [size if isinstance(size, int) else -1 for size in shape]
