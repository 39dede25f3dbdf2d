"""A gRPC client by hand, frame by frame, for what a well-behaved one never does."""

import socket
import struct

import numpy as np
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.settings import Settings

from quorate.deployments.wire import open_inference_pb2 as pb

INFER = "/inference.GRPCInferenceService/ModelInfer"


ROW = np.array([[0.5, -1.0]], np.float32)


def infer_request(rows=ROW, model="pair"):
    """A request of ModelInfer for rows of two numbers."""
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=[rows.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=rows.shape)
    return request.SerializeToString()


def prefixed(message, packed=0):
    """A message as gRPC sends it."""
    return struct.pack(">BI", packed, len(message)) + message


class _H2(H2Connection):
    gone = None

    def _receive_goaway_frame(self, frame):
        self.gone = frame.error_code  # and no more: what has begun goes on
        return [], []


class Http2Client:
    """One connection. Its calls send and return at once; ``read_until`` reads.

    Attributes:
        h2: the protocol's state; what it has to say goes out with ``flush``.
        headers: by stream, what came before and after its messages.
        data: by stream, the messages with their prefixes.
        ended: the streams whose server has said all.
        reset: by stream, the code it was reset with.
        gone: the last GOAWAY's code, or None.
    """

    def __init__(self, address, settings=None):
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        self.h2 = _H2(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.headers, self.data, self.ended, self.reset = {}, {}, set(), {}
        self.closed = False
        if settings:
            self.h2.local_settings = Settings(initial_values=settings)
        self.h2.initiate_connection()
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    @property
    def gone(self):
        return self.h2.gone

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def begin(self, path=INFER, **headers):
        """Begin a call; returns its stream."""
        stream = self.h2.get_next_available_stream_id()
        found = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "here", "te": "trailers"}
        found |= {"content-type": "application/grpc"} | {name.replace("_", "-"): v for name, v in headers.items()}
        self.h2.send_headers(stream, list(found.items()))
        return stream

    def call(self, message, path=INFER, **headers):
        """A whole call with one message; returns its stream."""
        stream = self.begin(path, **headers)
        self.h2.send_data(stream, prefixed(message), end_stream=True)
        return stream

    def read_until(self, condition):
        """Read what comes until ``condition()`` holds, or the server hangs up."""
        while not condition() and not self.closed:
            if not self.read():
                raise TimeoutError

    def read(self, timeout_s=20.0):
        """Read what comes, once; whether anything came in time."""
        try:
            self.flush()
            self.socket.settimeout(timeout_s)
            data = self.socket.recv(65536)
        except TimeoutError:
            return False
        except ConnectionError:
            data = b""
        finally:
            self.socket.settimeout(20)
        self.closed = not data
        for event in self.h2.receive_data(data):
            self._take(event)
        return True

    def status(self, stream):
        """Wait for a call's end; returns its status and sentence."""
        self.read_until(lambda: stream in self.ended or stream in self.reset)
        headers = self.headers.get(stream, {})
        return int(headers["grpc-status"]), headers.get("grpc-message", "")

    def messages(self, stream):
        """What a call has been answered so far, without the prefixes."""
        data, found = self.data.get(stream, b""), []
        while data:
            (size,) = struct.unpack(">I", data[1:5])
            found.append(data[5 : 5 + size])
            data = data[5 + size :]
        return found

    def _take(self, event):
        if isinstance(event, (ResponseReceived, TrailersReceived)):
            self.headers.setdefault(event.stream_id, {}).update(event.headers)
        elif isinstance(event, DataReceived):
            self.data[event.stream_id] = self.data.get(event.stream_id, b"") + event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self.ended.add(event.stream_id)
        elif isinstance(event, StreamReset):
            self.reset[event.stream_id] = event.error_code
