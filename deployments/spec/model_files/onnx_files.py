"""What an ONNX file says of itself, read without ONNX Runtime: files beside it, sizes of its inputs, names of classes.

Field numbers are those of onnx.proto3 (ONNX 1.x, unchanged since IR version 3).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from quorate.deployments.spec.model_files.file_input import FileInput

_GRAPH = 7  # of ModelProto
_NODE, _INITIALIZER, _INPUT, _SPARSE = 1, 5, 11, 15  # of GraphProto
_OPERATOR, _ATTRIBUTE = 4, 5  # of NodeProto
_ATTRIBUTE_NAME, _TENSOR, _SUBGRAPH, _INTS, _STRINGS, _TENSORS, _SUBGRAPHS = 1, 5, 6, 8, 9, 10, 11  # of AttributeProto
_INT32_DATA, _STRING_DATA, _INT64_DATA, _TENSOR_NAME, _EXTERNAL = 5, 6, 7, 8, 13  # of TensorProto
_VARINT, _BYTES = 0, 2  # wire types
_WIDTHS = {1: 8, 5: 4}  # bytes of the other wire types
Message = memoryview


class OnnxFileError(ValueError):
    """A file that is no ONNX model."""


# The protocol's names of TensorProto.DataType.
_DATATYPES = {
    1: "FP32", 2: "UINT8", 3: "INT8", 4: "UINT16", 5: "INT16", 6: "INT32", 7: "INT64", 8: "BYTES", 9: "BOOL",
    10: "FP16", 11: "FP64", 12: "UINT32", 13: "UINT64", 16: "BF16",
}  # fmt: skip


@dataclass(frozen=True)
class OnnxFile:
    """What stands in a model's file.

    Attributes:
        inputs: by name; those that have a default excepted.
        classes: names of classes, where the file has some.
        data: paths, from the file's folder, of other files that hold its tensors.
    """

    inputs: dict[str, FileInput]
    classes: tuple[str, ...] | None
    data: tuple[str, ...]


def read_onnx(path: Path) -> OnnxFile:
    """Read a model's file; tensors in it are skipped over.

    Raises:
        OnnxFileError: it is none.
    """
    if not path.stat().st_size:  # there is no map of nothing
        raise OnnxFileError(f"{path.name} is no ONNX file: it is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        try:
            return _read(memoryview(whole))
        except (ValueError, IndexError) as error:
            found = str(error)  # whose trace holds on to the map
    raise OnnxFileError(f"{path.name} is no ONNX file: {found}")


def _read(model: Message) -> OnnxFile:
    inputs: dict[str, FileInput] = {}
    data: dict[str, None] = {}
    labels: set[tuple[str, ...]] = set()
    graphs = _all(model, _GRAPH)
    if not graphs:
        raise ValueError("it holds no graph")
    initialized = {_text(found, _TENSOR_NAME) for found in _all(graphs[0], _INITIALIZER)}
    for found in _all(graphs[0], _INPUT):
        name = _text(found, 1)
        if name not in initialized:
            inputs[name] = _input(found)
    while graphs:
        graph = graphs.pop()
        data |= dict.fromkeys(path for tensor in _tensors(graph) for path in _locations(tensor))
        for attribute in (a for node in _all(graph, _NODE) for a in _all(node, _ATTRIBUTE)):
            graphs += [*_all(attribute, _SUBGRAPH), *_all(attribute, _SUBGRAPHS)]
            if _text(attribute, _ATTRIBUTE_NAME).startswith("classlabels_"):
                labels |= {_labels(attribute)}
        labels |= set(_extracted_labels(graph))
    return OnnxFile(inputs, _classes(labels - {()}), tuple(data))


def _classes(found: set[tuple[str, ...]]) -> tuple[str, ...] | None:
    """The names of a model's classes, where one part after the other has such: parts inside may only number them."""
    named = {labels for labels in found if labels != tuple(map(str, range(len(labels))))}
    found = named or found
    return next(iter(found)) if len(found) == 1 else None


def _extracted_labels(graph: Message) -> Iterator[tuple[str, ...]]:
    """Of classifiers that look a name up by the number of the best column, as sklearn-onnx writes them."""
    looked_up = [node for node in _all(graph, _NODE) if _text(node, _OPERATOR) == "ArrayFeatureExtractor"]
    tables = {_text(node, 1) for node in looked_up}  # its first input
    for tensor in _all(graph, _INITIALIZER):
        if _text(tensor, _TENSOR_NAME) in tables:
            texts = [bytes(value).decode() for value in _all(tensor, _STRING_DATA)]
            found = texts or [str(number) for number in _packed(tensor, _INT32_DATA, _INT64_DATA)]
            yield tuple(found) if len(set(found)) == len(found) else ()  # others are labels of rows


def _tensors(graph: Message) -> Iterator[Message]:
    yield from _all(graph, _INITIALIZER)
    for sparse in _all(graph, _SPARSE):
        yield from (*_all(sparse, 1), *_all(sparse, 2))  # values and their places
    for node in _all(graph, _NODE):
        for attribute in _all(node, _ATTRIBUTE):
            yield from _all(attribute, _TENSOR)
            yield from _all(attribute, _TENSORS)


def _locations(tensor: Message) -> Iterator[str]:
    for entry in _all(tensor, _EXTERNAL):
        if _text(entry, 1) == "location":
            yield _text(entry, 2)


def _labels(attribute: Message) -> tuple[str, ...]:
    """Of an attribute such as ``classlabels_int64s`` or ``classlabels_strings``."""
    texts = tuple(bytes(value).decode() for value in _all(attribute, _STRINGS))
    return texts or tuple(map(str, _packed(attribute, _INTS)))


def _packed(message: Message, *numbers: int) -> list[int]:
    """Repeated integers, one by one or all in one field."""
    found: list[int] = []
    for number, value in _fields(message):
        if number not in numbers:
            continue
        if isinstance(value, int):
            found.append(_signed(value))
            continue
        at = 0
        while at < len(value):
            integer, at = _varint(value, at)
            found.append(_signed(integer))
    return found


def _input(value_info: Message) -> FileInput:
    """Of a ValueInfoProto: its type (2) is a tensor's (1), which has a type (1) and a shape (2) of dimensions (1)."""
    tensors = [tensor for kind in _all(value_info, 2) for tensor in _all(kind, 1)]
    datatypes = [_DATATYPES.get(_number(tensor, 1) or 0, "") for tensor in tensors]
    shapes = [shape for tensor in tensors for shape in _all(tensor, 2)]
    sizes = [_number(dim, 1) for shape in shapes for dim in _all(shape, 1)]
    return FileInput(datatypes[0] if datatypes else "", tuple(sizes) if shapes else None)


def _number(message: Message, number: int) -> int | None:
    return next((value for found, value in _fields(message) if found == number and isinstance(value, int)), None)


def _all(message: Message, number: int) -> list[Message]:
    return [value for found, value in _fields(message) if found == number and not isinstance(value, int)]


def _text(message: Message, number: int) -> str:
    return next((bytes(value).decode() for value in _all(message, number)), "")


def _fields(message: Message) -> Iterator[tuple[int, Message | int]]:
    """Number and value of each field; fixed-width ones are passed over."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
        elif kind == _BYTES:
            size, at = _varint(message, at)
            if at + size > len(message):
                raise ValueError("it is cut off")
            yield number, message[at : at + size]
            at += size
        elif kind in _WIDTHS:
            at += _WIDTHS[kind]
        else:
            raise ValueError(f"it has a field of wire type {kind}")


def _varint(message: Message, at: int) -> tuple[int, int]:
    """The number that stands at a place, and the place behind it."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("it has a number of more than 64 bits")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
