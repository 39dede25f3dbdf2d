"""Messages on a byte stream: a list of frames (messages.py) as one run of bytes, and such runs cut into frames again.

A message is a prefix, the length of each frame, and the frames, all padded to 8 bytes so that tensors lie aligned.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from quorate.deployments.transport.messages import HEADER_BYTES, Frame, FramingError, Kind, Payload, pack, pack_header

_PREFIX = struct.Struct("<4sI")  # magic, number of frames
_MAGIC = b"QST1"
_ALIGNMENT = 8
_PADDING = bytes(_ALIGNMENT)
MAX_FRAMES = 1024
MAX_MESSAGE_BYTES = 1 << 33
# Messages up to this size share one buffer and are copied out of it; larger ones are read into memory of their own.
CHUNK_BYTES = 1 << 16
# Sizes of frames repeat from message to message: so many layouts are remembered.
_REMEMBERED = 4096


class _Layout(NamedTuple):
    """Where a message's frames stand from its start, and how long it is."""

    frames: tuple[slice, ...]
    size: int


def to_stream(frames: Sequence[Frame]) -> list[Frame]:
    """A message as buffers to be written one after the other; long tensors are not copied."""
    sizes = tuple([len(frame) for frame in frames])
    lead, paddings = _lead(sizes)
    parts: list[Frame] = [lead]
    for frame, padding in zip(frames, paddings, strict=True):
        parts += [frame, padding] if padding else [frame]
    return parts if sum(sizes) > CHUNK_BYTES else [b"".join(parts)]


def call_to_stream(kind: Kind, call_id: int, number: float, payload: Payload) -> bytes | None:
    """A call as one run of bytes; None for a long one, whose tensors are not to be copied.

    What is the same in the calls to all members is put together once.
    """
    if payload.stream is None:
        if payload.nbytes > CHUNK_BYTES // 2:
            return None
        (whole,) = to_stream(pack(kind, call_id, number, payload))
        at = _PREFIX.size + 8 * (1 + len(payload.frames))
        payload.stream = bytes(whole[:at]), bytes(whole[at + HEADER_BYTES :])
    before, behind = payload.stream
    return before + pack_header(kind, len(payload.frames), call_id, number) + behind


class StreamCutter:
    """Cuts a byte stream into messages: bytes go into ``buffer()``, ``filled`` tells what they complete.

    Attributes:
        max_message_bytes: longer ones are refused before memory is taken for them.
    """

    def __init__(self) -> None:
        self.max_message_bytes = MAX_MESSAGE_BYTES
        self._shared = memoryview(bytearray(CHUNK_BYTES))
        self._large: memoryview | None = None
        self._end = 0  # bytes that are in the buffer now in use

    def buffer(self, sizehint: int = -1) -> memoryview:
        """Where the next bytes go; never empty, however many are expected."""
        return (self._shared if self._large is None else self._large)[self._end :]

    def filled(self, size: int) -> list[list[Frame]]:
        """The messages that ``size`` more bytes complete.

        Raises:
            FramingError: these bytes are no message.
        """
        self._end += size
        if self._large is None:
            layout = _layout(self._shared, 0, self._end)
            if layout is not None and layout.size == self._end:  # one message and nothing more, as nearly always
                message, self._end = _copied(self._shared[: layout.size]), 0
                return [[message[frame] for frame in layout.frames]]
            return self._cut_shared()
        if self._end < len(self._large):
            return []
        message, self._large, self._end = self._large, None, 0
        layout = _layout(message, 0, len(message))
        assert layout is not None
        return [[message[frame] for frame in layout.frames]]

    def _cut_shared(self) -> list[list[Frame]]:
        messages: list[list[Frame]] = []
        at, end = 0, self._end
        layout = None
        while at < end and (layout := _layout(self._shared, at, end)) is not None and at + layout.size <= end:
            message = _copied(self._shared[at : at + layout.size])
            messages.append([message[frame] for frame in layout.frames])
            at += layout.size
            layout = None
        self._end = end - at
        if layout is not None and layout.size > self.max_message_bytes:
            raise FramingError(f"a message of {layout.size} bytes; {self.max_message_bytes} are allowed")
        if layout is not None and layout.size > CHUNK_BYTES:
            self._large = np.empty(layout.size, np.uint8).data
            self._large[: self._end] = self._shared[at:end]
        elif at and self._end:
            self._shared[: self._end] = bytes(self._shared[at:end])
        return messages


def _copied(message: memoryview) -> memoryview:
    return memoryview(bytearray(message))  # writable, as a model may want it


def _layout(data: memoryview, at: int, end: int) -> _Layout | None:
    """How the message that begins at ``at`` is laid out; None while too little of it is there to tell."""
    if end - at < _PREFIX.size:
        return None
    magic, count = _PREFIX.unpack_from(data, at)
    if magic != _MAGIC or count > MAX_FRAMES:
        raise FramingError(f"the stream starts a message with {magic!r} and {count} frames; not one of ours")
    at += _PREFIX.size
    if end - at < 8 * count:
        return None
    return _lay_out(bytes(data[at : at + 8 * count]))


@lru_cache(_REMEMBERED)
def _lay_out(sizes: bytes) -> _Layout:
    count = len(sizes) // 8
    at = _PREFIX.size + 8 * count
    frames = []
    for size in _sizes(count).unpack(sizes):
        frames.append(slice(at, at + size))
        at += size + -size % _ALIGNMENT
    if at > MAX_MESSAGE_BYTES:
        raise FramingError(f"a message of {at} bytes; {MAX_MESSAGE_BYTES} are allowed")
    return _Layout(tuple(frames), at)


@lru_cache(_REMEMBERED)
def _lead(sizes: tuple[int, ...]) -> tuple[bytes, tuple[bytes, ...]]:
    """What stands before frames of these sizes, and behind each."""
    lead = _PREFIX.pack(_MAGIC, len(sizes)) + _sizes(len(sizes)).pack(*sizes)
    return lead, tuple(_PADDING[size % _ALIGNMENT :] if size % _ALIGNMENT else b"" for size in sizes)


@lru_cache(MAX_FRAMES + 1)
def _sizes(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}Q")
