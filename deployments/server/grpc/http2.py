"""h2 as a server of gRPC needs it: its settings, and what of its ways does not suit."""

from __future__ import annotations

import logging

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event
from h2.exceptions import StreamClosedError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import DataFrame, Frame, GoAwayFrame

# At the level of DEBUG it writes down every header, tokens among them.
logging.getLogger("hpack").setLevel(logging.INFO)

# h2 writes every frame out for its log, in hexadecimal and also where there is none: a fifth of a long message's time.
Frame.__repr__ = object.__repr__  # type: ignore[method-assign]

MAX_STREAMS, MAX_METADATA_BYTES = 256, 64 << 10
FRAME_BYTES = 64 << 10
STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES = 4 << 20, 16 << 20
_CONFIG = H2Configuration(
    client_side=False,
    header_encoding=False,
    # Nothing is handed on to other servers; what is needed of a request is looked at where it is read.
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)
_SETTINGS = {
    SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
    SettingCodes.MAX_HEADER_LIST_SIZE: MAX_METADATA_BYTES,
    SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
    SettingCodes.MAX_FRAME_SIZE: FRAME_BYTES,
    SettingCodes.ENABLE_PUSH: 0,
}


class ClientGoesAway(Event):
    """The client begins no more calls."""


class LateData(Event):
    """Data came for a call that the client has ended, or that has ended here and the client did not know yet."""

    def __init__(self, stream_id: int, data: bytes):
        self.stream_id, self.data = stream_id, data


class ServerH2(H2Connection):
    MAX_CLOSED_STREAMS = 1024  # it keeps how each ended; a frame for an older one ends the connection

    def __init__(self) -> None:
        super().__init__(_CONFIG)
        self.local_settings = Settings(client=False, initial_values=_SETTINGS)
        self.max_inbound_frame_size = FRAME_BYTES

    def _handle_data_on_closed_stream(
        self, events: list[Event], exc: StreamClosedError, frame: DataFrame
    ) -> tuple[list[Frame], list[Event]]:
        # h2 tells of it as of a reset, or not at all.
        frames, _ = super()._handle_data_on_closed_stream(events, exc, frame)
        return frames, [LateData(frame.stream_id, frame.data)]

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        # h2 would send nothing any more, but the client waits for the calls that it has begun (RFC 9113, 6.8).
        return [], [ClientGoesAway()]
