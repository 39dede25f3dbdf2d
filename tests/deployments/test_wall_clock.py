"""A clock that jumps by an hour: nothing but stamps for people depends on the time of day."""

import ast
import asyncio
import itertools
import json
import time
from pathlib import Path

import grpc
import numpy as np
import pytest

from quorate.deployments import Client
from quorate.deployments.errors import ConflictError
from quorate.deployments.records import lease
from quorate.deployments.records.lease import hold
from quorate.deployments.wire import open_inference_pb2 as pb
from tests.deployments.support.member_threads import running
from tests.deployments.support.memory_store import MemoryStore

ROOT = Path(__file__).parents[2]
# Where the time of day is read, for people to see: since when a lease is held, when a model was last asked, the name of
# a run's folder, a line of a log and when it was written; and files of logs that are older than a day are forgotten;
# when a request was seen that stands for a bucket of a histogram, and when a span began and ended; how old files are
# that nobody needs; from when to when a certificate is good; when an answer was given and a label came, how old
# those are that a record keeps, and how long ago weights went live that were learned from them.
STAMPS = {
    ("deployments/records/lease.py", "now"),
    ("deployments/metrics/statistics.py", "time_ns"),
    ("deployments/metrics/counters.py", "time"),
    ("tuning/runs/run_folder.py", "now"),
    ("deployments/logs/files.py", "time"),
    ("deployments/logs/lines.py", "time"),
    ("deployments/logs/lines.py", "strftime"),
    ("deployments/logs/lines.py", "localtime"),
    ("deployments/logs/lines.py", "gmtime"),
    ("deployments/telemetry/spans.py", "time_ns"),
    ("deployments/members/telemetry.py", "time_ns"),
    ("deployments/telemetry/otlp.py", "time_ns"),
    ("deployments/records/content_cache.py", "time"),
    ("deployments/records/kept_files.py", "time"),
    ("deployments/engine/requests/answer_ids.py", "time"),
    ("deployments/learning/blocks.py", "time"),
    ("deployments/learning/expiry.py", "time"),
    ("deployments/learning/known_answers.py", "time"),
    ("deployments/learning/feedback.py", "time_ns"),
    ("deployments/control/online/online_learning.py", "time_ns"),
    ("cluster/operations/logs.py", "time"),
    ("cluster/operations/logs.py", "strftime"),
    ("cluster/operations/logs.py", "localtime"),
    ("cluster/manifest/node_certificate.py", "now"),
}
WALL = {"time": {"time", "time_ns", "localtime", "gmtime", "ctime", "strftime", "clock_gettime"},
        "datetime": {"now", "utcnow", "today"}, "date": {"today"}}  # fmt: skip


def wall_clock_reads(source):
    """Names of the functions in a module's text that tell the time of day."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            if node.attr in WALL.get(owner, ()):
                yield node.attr
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from (name.name for name in node.names if name.name in WALL["time"])


@pytest.mark.long  # all of the product is parsed
def test_the_time_of_day_is_read_for_stamps_only():
    files = [path for room in ("cluster", "deployments", "fusion", "tuning") for path in (ROOT / room).rglob("*.py")]
    found = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in files
        for name in wall_clock_reads(path.read_text(encoding="utf-8"))
    }
    assert len(files) > 200
    assert found == STAMPS


@pytest.mark.parametrize(
    "text", ["import time\nx = time.time()", "from time import time", "datetime.datetime.now()", "datetime.now()"]
)
def test_reads_of_the_time_of_day_are_found(text):
    assert list(wall_clock_reads(text))


@pytest.fixture(params=[3600, -3600], ids=["forward", "back"])
def jumping(request, monkeypatch):
    """The time of day jumps by an hour, there and back, each time that somebody looks."""
    looks, seconds, nanoseconds = itertools.count(), time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: seconds() + request.param * (next(looks) % 2))
    monkeypatch.setattr(time, "time_ns", lambda: nanoseconds() + request.param * 10**9 * (next(looks) % 2))
    assert abs(time.time() - time.time()) > 3000


def test_requests_are_answered_in_full_over_both_doors(jumping, pair):
    rows = np.array([[0.5, -1.0], [2.0, 1.0]], np.float32)
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=rows.shape)
    request = pb.ModelInferRequest(model_name="pair", inputs=[tensor], raw_input_contents=[rows.tobytes()])
    with Client(pair.http, timeout_s=60.0) as client, grpc.insecure_channel(pair.grpc) as channel:
        stub = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelInferResponse.FromString,
        )
        for _ in range(20):  # the stock client of gRPC reckons its time-out by the time of day, hence so long a one
            assert not client.infer("pair", {"x": rows}).parameters["degraded"]
            assert not stub(request, timeout=10_000).parameters["degraded"].bool_param


@pytest.mark.long
def test_a_deadline_is_neither_early_nor_an_hour_late(jumping, pair_spec, tmp_path):
    switch = tmp_path / "switch"
    switch.write_text("0")
    slow = {**pair_spec["members"]["b"], "model": "known:slow", "config": {"shift": 1, "switch": str(switch)}}
    fusion = {"rule": "mean", "deadline_s": 0.4}
    spec = {**pair_spec, "name": "late", "members": {"a": pair_spec["members"]["a"], "b": slow}, "fusion": fusion}

    async def scenario():
        async with running(spec) as engine:
            switch.write_text("hold")
            started = time.monotonic()
            try:
                answer = await asyncio.wait_for(engine.infer({"x": np.ones((1, 2), np.float32)}), 60)
            finally:
                switch.write_text("0")
            return answer, time.monotonic() - started

    answer, elapsed_s = asyncio.run(scenario())
    assert dict(answer.members_missing) == {"b": "deadline"}
    assert elapsed_s > 0.36


@pytest.mark.long
def test_a_lease_that_is_kept_up_is_not_taken_and_one_that_is_not_is(jumping, monkeypatch):
    store = MemoryStore()
    started = time.monotonic()
    with (
        hold(store, "held", "a deployment"),
        pytest.raises(ConflictError, match="is being changed"),
        hold(store, "held", "another", wait_s=0.3),
    ):
        pass
    assert time.monotonic() - started > 0.27
    monkeypatch.setattr(lease, "LEASE_S", 0.5)
    value = {"holder": "a deployment by anna on head", "since": "10:00:00 UTC", "beat": 7, "over": False}
    store.put("lease/left/1", json.dumps(value).encode())
    started = time.monotonic()
    with hold(store, "left", "a deployment", wait_s=60) as taken:
        assert taken.number == 2
    assert time.monotonic() - started > 0.45
