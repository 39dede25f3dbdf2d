"""A client that must be answered, whatever others do meanwhile, and what the server takes for it."""

import contextlib
import json
import threading
import time

import grpc
import httpx
import numpy as np
import psutil
import pytest

from quorate.deployments.wire import open_inference_pb2 as pb

ROWS = np.array([[0.5, -1.0]], np.float32)
BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.5, -1.0]}]}).encode()
PATH = "/inference.GRPCInferenceService/ModelInfer"


def http_answer(doors):
    reply = httpx.post(f"{doors.http}/v2/models/pair/infer", content=BODY, timeout=20)
    assert reply.status_code == 200, reply.text
    return reply.json()["outputs"][0]["data"]


def grpc_answer(doors):
    message = pb.ModelInferRequest(model_name="pair", raw_input_contents=[ROWS.tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    with grpc.insecure_channel(doors.grpc) as channel:
        infer = channel.unary_unary(PATH, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
        return np.frombuffer(infer(message, timeout=20).raw_output_contents[0], np.float32).tolist()


def assert_healthy(doors):
    assert grpc_answer(doors) == pytest.approx(http_answer(doors))


class Healthy:
    """A client that asks both doors from ``with`` to its end; every answer must come."""

    def __init__(self, doors):
        self._doors, self._stop = doors, threading.Event()
        self._failures, self.asked, self.took_s = [], 0, []
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                assert_healthy(self._doors)
            except Exception as error:
                self._failures.append(error)
            self.asked += 1
            self.took_s.append(time.monotonic() - began)
            self._stop.wait(0.005)  # who is tested has the cores

    def __enter__(self):
        assert_healthy(self._doors)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        assert self.asked
        assert not self._failures


def resident_bytes():
    return psutil.Process().memory_info().rss


@contextlib.contextmanager
def growth_below(pair, size):
    """This process, the server's too, grows by less than ``size`` bytes meanwhile."""
    assert_healthy(pair)
    before = resident_bytes()
    yield
    assert resident_bytes() - before < size
