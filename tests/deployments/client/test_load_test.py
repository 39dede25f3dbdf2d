import asyncio
import contextlib
import socket
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pytest

from quorate.deployments.client.load import load_test
from quorate.deployments.client.load.load_test import Load, bench
from quorate.deployments.client.load.random_inputs import random_inputs
from quorate.deployments.errors import RemoteError, RequestError, UnavailableError
from quorate.deployments.wire.datatypes import numpy_dtype

METADATA: dict[str, object] = {
    "name": "m",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
    "outputs": [],
}


class Server:
    """An HTTP server of a few lines whose every answer the test decides.

    ``answer(number)`` gives each inference's delay in seconds, status and body; a status of 0 hangs up.
    """

    def __init__(self, answer):
        self._answer, self.bodies = answer, []
        self.requests = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self):
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def close(self):
        """Take no connection any more; for ``answer``."""
        self._server.close()

    async def _serve(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._server = server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _talk(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                status: int = 404
                body: object = {"error": "no such model"}
                if head.startswith(b"GET /v2/models/m "):
                    status, body = 200, METADATA
                elif head.startswith(b"POST /v2/models/m/infer "):
                    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                    self.bodies.append(orjson.loads(await reader.readexactly(length)))
                    self.requests += 1
                    delay_s, status, body = self._answer(self.requests)
                    await asyncio.sleep(delay_s)
                if status == 0:
                    break
                data = orjson.dumps(body)
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(data), data))
        writer.close()


def full(_):
    return 0.0, 200, {"parameters": {"degraded": False}}


def stalls_once(stall_s):
    """Answers at once, but holds up everyone for a while at the hundredth request, as a garbage collection would."""

    def answer(number):
        if number == 100:
            time.sleep(stall_s)
        return full(number)

    return answer


def test_closed_loop_latency_is_the_servers_and_the_rate_follows_by_littles_law():
    with Server(lambda _: (0.02, 200, {})) as server:
        result = bench(server.url, "m", Load(clients=4, duration_s=0.6, warm_up_s=0.1))
    assert result.errors == result.degraded == 0
    assert result.p50_ms >= 20
    assert result.rate <= 4 / 0.02 * 1.1  # what starts just before the end is counted whole
    assert result.requests >= 4


@pytest.mark.long
def test_open_loop_charges_a_stall_to_every_request_that_was_due_meanwhile():
    with Server(stalls_once(0.5)) as server:
        result = bench(server.url, "m", Load(clients=8, rate=200, duration_s=1.5, warm_up_s=0.0))
    assert result.requests == 300
    assert result.max_ms >= 490
    # A third of the requests were due during the stall and waited half of it on average; only 8 were sent into it.
    assert result.p90_ms >= 300


@pytest.mark.long
def test_closed_loop_shows_the_same_stall_to_its_few_clients_only():
    with Server(stalls_once(0.3)) as server:
        result = bench(server.url, "m", Load(clients=2, duration_s=1.0, warm_up_s=0.0))
    assert result.max_ms >= 290
    assert result.p90_ms < 290


def test_errors_are_counted_and_the_first_is_quoted():
    def every_fourth_fails(number):
        return (0.0, 503, {"error": f"shed {number}"}) if number % 4 == 0 else full(number)

    with Server(every_fourth_fails) as server:
        result = bench(server.url, "m", Load(clients=1, rate=200, duration_s=0.5, warm_up_s=0.0))
    assert (result.requests, result.errors) == (100, 25)
    assert result.first_error == '503 {"error":"shed 4"}'


@pytest.mark.long
def test_a_connection_the_server_cuts_is_an_error_and_is_replaced():
    def cuts_the_third(number):
        return (0.0, 0, {}) if number == 3 else full(number)

    with Server(cuts_the_third) as server:
        result = bench(server.url, "m", Load(clients=1, rate=20, duration_s=2.0, warm_up_s=0.0))
    assert (result.requests, result.errors) == (40, 1)


def test_requests_that_a_busy_machine_sends_after_the_end_are_counted_too(monkeypatch):
    slow = SimpleNamespace(perf_counter=time.perf_counter, sleep=lambda pause_s: time.sleep(pause_s + 0.03))
    with Server(full) as server:
        monkeypatch.setattr(load_test, "time", slow)
        result = bench(server.url, "m", Load(clients=1, rate=100, duration_s=0.2, warm_up_s=0.0))
    assert (result.requests, result.errors) == (20, 0)


def test_a_request_without_an_answer_is_an_error_after_the_timeout():
    def hangs_once(number):
        return (60.0, 200, {}) if number == 5 else full(number)

    with Server(hangs_once) as server:
        result = bench(server.url, "m", Load(clients=2, rate=100, duration_s=0.3, warm_up_s=0.0, timeout_s=0.3))
    assert (result.requests, result.errors) == (30, 1)


def test_degraded_answers_are_counted():
    def every_fifth_is_degraded(number):
        return 0.0, 200, {"parameters": {"degraded": number % 5 == 0}}

    with Server(every_fifth_is_degraded) as server:
        result = bench(server.url, "m", Load(clients=1, rate=200, duration_s=0.5, warm_up_s=0.0))
    assert (result.requests, result.degraded, result.errors) == (100, 20, 0)


@pytest.mark.long
def test_warm_up_is_sent_but_not_measured():
    with Server(full) as server:
        result = bench(server.url, "m", Load(clients=2, rate=100, duration_s=0.5, warm_up_s=0.5))
        assert server.requests == 100
    assert result.requests == 50


def test_requests_fit_the_models_metadata():
    with Server(full) as server:
        bench(server.url, "m", Load(clients=1, rate=50, duration_s=0.2, warm_up_s=0.0, rows=3))
        tensor = server.bodies[0]["inputs"][0]
    assert {key: tensor[key] for key in ("name", "datatype", "shape")} == {
        "name": "x",
        "datatype": "FP32",
        "shape": [3, 4],
    }
    assert np.array(tensor["data"], np.float32).shape == (12,)
    assert len({orjson.dumps(body) for body in server.bodies}) > 1


def test_random_input_has_the_sizes_that_the_model_was_tried_with():
    inputs: list[dict[str, Any]] = [
        {"name": "x", "datatype": "FP32", "shape": [-1, 2, -1], "parameters": {"example_shape": "[2, 5]"}},
        {"name": "n", "datatype": "INT32", "shape": [-1, 1]},
    ]
    x, n = random_inputs(inputs, 40, np.random.default_rng(0))
    assert x["shape"] == [40, 2, 5]
    assert set(n["data"]) == set(range(6))


@pytest.mark.parametrize("datatype", ["BOOL", "UINT8", "INT8", "INT64", "FP16", "BF16", "FP64", "BYTES"])
def test_random_input_has_values_its_datatype_holds(datatype):
    inputs = [{"name": "x", "datatype": datatype, "shape": [-1, 2, -1]}]
    (tensor,) = orjson.loads(orjson.dumps(random_inputs(inputs, 2, np.random.default_rng(0))))
    assert tensor["shape"] == [2, 2, 16]
    if datatype == "BYTES":
        assert all(isinstance(item, str) for item in tensor["data"])
    else:
        values = np.array(tensor["data"])
        assert np.allclose(values.astype(numpy_dtype(datatype)).astype(float), values.astype(float), rtol=0.01)
    assert len(tensor["data"]) == 64


def test_several_servers_share_the_connections():
    with Server(full) as one, Server(full) as other:
        result = bench([one.url, other.url], "m", Load(clients=4, rate=200, duration_s=0.5, warm_up_s=0.0))
        assert (result.requests, result.errors) == (100, 0)
        assert one.requests + other.requests == 100
        assert min(one.requests, other.requests) > 0


def test_clients_of_a_server_that_goes_take_another():
    with Server(full) as one, Server(full) as going:

        def go(_):
            going.close()
            return 0.0, 0, {}

        going._answer = go
        load = Load(clients=2, rate=200, duration_s=0.5, warm_up_s=0.0)
        result = bench(f"{one.url},{going.url}", "m", load)
    assert (result.requests, result.errors, going.requests) == (100, 1, 1)


def test_no_server_is_a_typed_error():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UnavailableError, match=r"is the ensemble deployed\?"):
        bench(f"http://127.0.0.1:{port}", "m", Load())


def test_an_unknown_model_is_the_servers_own_error():
    with Server(full) as server, pytest.raises(RemoteError, match="404"):
        bench(server.url, "other", Load())


def test_a_server_that_answers_nothing_is_a_typed_error_with_its_words():
    refused = (0.0, 503, {"error": "too few members"})
    with Server(lambda _: refused) as server, pytest.raises(UnavailableError, match="too few members"):
        bench(server.url, "m", Load(clients=1, duration_s=0.1, warm_up_s=0.0))


@pytest.mark.parametrize("wrong", [{"clients": 0}, {"rate": -1.0}, {"duration_s": float("nan")}, {"warm_up_s": -0.1}])
def test_a_load_that_means_nothing_is_refused(wrong):
    with pytest.raises(RequestError, match=next(iter(wrong))):
        Load(**wrong)
