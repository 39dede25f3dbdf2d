"""Bodies that mean harm: bombs, broken ones, endless ones. Others are answered, and nothing of them is kept."""

import gzip
import random
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest

from tests.deployments.support.healthy_client import BODY, assert_healthy, growth_below, grpc_answer, resident_bytes
from tests.deployments.support.lines import connect


@pytest.mark.long
def test_thirty_bombs_at_once_stay_within_the_budget_and_others_are_answered(pair, monkeypatch):
    bomb = gzip.compress(bytes(1 << 28), 1)
    budget = pair.service.budget
    monkeypatch.setattr(budget, "limit_bytes", 32 << 20)
    # One client for all: each of its own would load the certificates of all authorities, into this same process.
    with httpx.Client(base_url=pair.http, headers={"content-encoding": "gzip"}, timeout=60) as client:
        before = resident_bytes()
        with ThreadPoolExecutor(30) as pool:
            posts = pool.map(lambda _: client.post("/v2/models/pair/infer", content=bomb), range(30))
            statuses = {reply.status_code for reply in posts}
    assert statuses <= {413, 503}
    assert 413 in statuses
    assert resident_bytes() - before < 2 * (32 << 20) + 30 * len(bomb)
    assert_healthy(pair)
    assert budget.held_bytes == 0


def test_bodies_that_cannot_be_unpacked_leave_no_memory_behind(pair):
    broken = gzip.compress(random.Random(0).randbytes(1 << 20))[:-100]
    with growth_below(pair, 32 << 20), httpx.Client(base_url=pair.http, timeout=20) as client:
        for _ in range(100):
            reply = client.post("/v2/models/pair/infer", content=broken, headers={"content-encoding": "gzip"})
            assert reply.status_code == 400
    assert pair.service.budget.held_bytes == 0


@pytest.mark.parametrize("count", [65_537, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_chunks_of_one_byte_take_no_more_memory_than_their_bytes(pair, count):
    with growth_below(pair, 16 << 20), connect(pair.http) as line:
        line.sendall(b"POST /v2/models/pair/infer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(0, count, 4096):
            line.sendall(b"1\r\n \r\n" * min(4096, count - at))
        line.sendall(b"0\r\n\r\n")
        assert line.recv(65536).startswith(b"HTTP/1.1 400")


@pytest.mark.long
@pytest.mark.parametrize(("bodies", "chunks"), [(10, 65_537), pytest.param(100, 1_000_000, marks=pytest.mark.slow)])
def test_bodies_of_very_many_chunks_leave_no_memory_behind(pair, bodies, chunks):
    def send():
        with connect(pair.http) as line:
            line.sendall(b"POST /v2/models/pair/infer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            for at in range(0, chunks, 4096):
                line.sendall(b"1\r\n \r\n" * min(4096, chunks - at))
            line.sendall(b"0\r\n\r\n")
            assert line.recv(65536).startswith(b"HTTP/1.1 400")

    for _ in range(3):
        send()
    with growth_below(pair, 1 << 20):
        for _ in range(bodies):
            send()


def test_a_body_in_parts_with_a_hostile_boundary_is_refused_at_once(pair):
    """CVE-2024-9056: nothing here reads multipart bodies."""
    boundary = "-" * 100_000
    body = (f"--{boundary}\r\n" * 20).encode()
    headers = {"content-type": f"multipart/form-data; boundary={boundary[:1000]}"}
    before_s = time.process_time()
    reply = httpx.post(f"{pair.http}/v2/models/pair/infer", content=body, headers=headers, timeout=20)
    assert reply.status_code == 400
    assert time.process_time() - before_s < 1.0
    assert_healthy(pair)


def test_an_answer_for_which_there_is_no_room_is_refused_on_both_wires(open_doors, monkeypatch):
    member = {"model": "known:wide", "config": {"columns": 100_000}, "inputs": ["x"], "output": "values"}
    spec = {"name": "pair", "inputs": {"x": {"datatype": "FP32", "shape": [2]}}, "members": {"m": member}}
    doors = open_doors({**spec, "fusion": {"rule": "mean"}})
    monkeypatch.setattr(doors.service.budget, "limit_bytes", 100_000)
    reply = httpx.post(f"{doors.http}/v2/models/pair/infer", content=BODY, timeout=20)
    assert reply.status_code == 503
    assert reply.headers["retry-after"]
    with pytest.raises(grpc.RpcError) as refused:
        grpc_answer(doors)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert doors.service.budget.held_bytes == 0
