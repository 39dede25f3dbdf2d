"""What a record costs: the same server with it off and on, labels a second, and a million answers fused again.

    OMP_NUM_THREADS=1 python benchmarks/record.py [--rounds 15] [--seconds 1] [--clients 64] [--answers 1000000]

Three members in processes of their own, one fusion server, clients in a closed loop, as in tracing.py. Every round
measures every way once, in another order: nothing recorded, all answers exact, all as float16, all with their inputs.
Ratios are of a round's own pairs: their median, and the middle half; CPU is the server's and its members'. The same
of the engine without HTTP, which has the least beside it. Then answers are recorded until there are so many,
labels are given for them, one a request and in bulk, and all are fused again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import numpy as np
import uvloop

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "serving_peers")]

from benchmarks.engine import ROW, SPEC  # noqa: E402
from benchmarks.tracing import Server, measure, ratios, run_as_told, start_child, start_server  # noqa: E402

WAYS: dict[str, dict[str, object]] = {
    "off": {},
    "exact": {"exact": True},
    "float16": {"exact": False},
    "inputs": {"inputs": True},
}
_TRUE = "0"
# Who ask the engine at once to fill a record.
FILLERS = 256
# Answers that the engine gives in a round of its own.
ASKED = 25_600
_HEAD = (
    b"POST /v2/models/mlps/feedback HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%s"
)


def serve(folder: Path) -> None:
    """A server and its members; each line of standard input is a record's settings, or empty for none."""
    from quorate.deployments.learning.recorder import Recorder
    from quorate.deployments.spec.ensemble import EnsembleSpec
    from quorate.deployments.spec.fields.record import RecordSpec

    kept = RecordSpec(folder=str(folder / "record"), max_bytes=1 << 40)
    spec = EnsembleSpec.model_validate({**SPEC.model_dump(), "record": kept.model_dump()})
    server = start_server(__file__, folder, spec)
    engine, learning = server.engine, server.learning

    async def fill(answers: int) -> None:
        """Ask the engine for so many answers of random rows, without HTTP."""
        rows = np.random.default_rng(1).standard_normal((4096, 1, ROW["x"].shape[1])).astype(np.float32)

        async def ask(count: int) -> None:
            for at in range(count):
                await engine.infer({"x": rows[at % len(rows)]})

        await asyncio.gather(*(ask(answers // FILLERS) for _ in range(FILLERS)))

    for line in sys.stdin:
        if line.startswith("fill "):
            asyncio.run_coroutine_threadsafe(fill(int(line.split()[1])), server._loop).result()
            print("done", flush=True)
            continue

        async def switch(line: str = line) -> None:
            old, learning._recorder = learning._recorder, None
            engine.answers.keeper = None
            if old is not None:
                await asyncio.get_running_loop().run_in_executor(None, old.close)
            if line.strip():
                settings = RecordSpec(**{**kept.model_dump(), **json.loads(line)})
                name = engine.answers.replica
                learning._recorder = Recorder(spec.name, settings, name, engine.metrics)
                engine.answers.keeper = learning._recorder

        server.call(switch())
        print("done", flush=True)
    server.stop()
    os._exit(0)


def report(found: Sequence[dict[str, dict[str, float]]]) -> None:
    print("| record | rate /s | of off | CPU us a request | of off |\n| --- | --- | --- | --- | --- |")
    for way in found[0]:
        rate, cpu = (statistics.median(one[way][what] for one in found) for what in ("rate", "cpu_us"))
        parts = ratios(found, way, "off", "rate"), ratios(found, way, "off", "cpu_us")
        print(f"| {way} | {rate:,.0f} | {parts[0]} | {cpu:,.0f} | {parts[1]} |", flush=True)


async def _label(port: int, ids: Sequence[str], bulk: int, clients: int) -> tuple[float, int]:
    """Seconds, and how many were accepted."""
    bodies = [
        json.dumps({"labels": [{"id": one, "label": _TRUE} for one in ids[at : at + bulk]]}).encode()
        for at in range(0, len(ids), bulk)
    ]
    waiting = iter(bodies)

    async def give() -> int:
        accepted, (reader, writer) = 0, await asyncio.open_connection("127.0.0.1", port)
        for body in waiting:
            writer.write(_HEAD % (len(body), body))
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode())
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            accepted += json.loads(await reader.readexactly(length))["accepted"]
        writer.close()
        return accepted

    started = time.perf_counter()
    accepted = await asyncio.gather(*(give() for _ in range(clients)))
    return time.perf_counter() - started, sum(accepted)


def labels(server: Server, ids: list[str]) -> None:
    for bulk, count, clients in ((1, 10_000, 64), (100, 100_000, 4), (1000, 200_000, 4)):
        some, ids = ids[:count], ids[count:]
        before = server.cpu_s()
        took, accepted = uvloop.run(_label(server.port, some, bulk, clients))
        cpu = 1e6 * (server.cpu_s() - before) / max(len(some), 1)
        print(
            f"{len(some):,} labels, {bulk} a request, {clients} clients: {len(some) / took:,.0f}/s, {accepted:,} "
            f"accepted, server's CPU {cpu:.1f} us a label", flush=True,
        )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="q") as place:
        child = start_child(__file__, "--serve", place)
        assert child.stdin is not None
        assert child.stdout is not None
        server = Server(child)

        def say(line: str) -> None:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(f"{line}\n")
            child.stdin.flush()
            child.stdout.readline()

        def switch(settings: dict[str, object] | None) -> None:
            say(json.dumps(settings) if settings is not None else "")

        def asked(answers: int) -> dict[str, float]:
            started, before = time.perf_counter(), server.cpu_s()
            say(f"fill {answers}")
            took, cpu_s = time.perf_counter() - started, server.cpu_s() - before
            return {"rate": answers / took, "cpu_us": 1e6 * cpu_s / answers}

        def compare(work: Callable[[], dict[str, float]]) -> None:
            found = []
            for _ in range(arguments.rounds):
                one = {}
                for way in random.sample(list(WAYS), len(WAYS)):
                    switch(None if way == "off" else WAYS[way])
                    one[way] = work()
                found.append({way: one[way] for way in WAYS})
            report(found)

        print(f"over HTTP, {arguments.clients} clients")
        compare(lambda: measure(server, arguments.clients, arguments.seconds))
        print(f"the engine alone, {FILLERS} at once")
        compare(lambda: asked(ASKED))
        switch({"exact": True})
        say(f"fill {arguments.answers}")
        switch(None)
        counted = httpx.get(f"{server.url}/metrics").text.splitlines()
        print("\n".join(line for line in counted if line.startswith("quorate_recorded_answers_total")), flush=True)

        from quorate.deployments.learning.reading import open_record
        from quorate.tuning.evaluation.replay import replay

        record = open_record(f"{place}/record/{SPEC.name}")
        size = sum(file.nbytes for file in record.folder.list("answers"))
        ids = [str(one) for rows in record.rows() if rows.about.exact for one in rows.ids]
        labels(server, ids)
        started = time.perf_counter()
        print(replay(record))
        took = time.perf_counter() - started
        print(f"fused again in {took:.1f} s; {size / 2**20:.0f} MiB on disk")
        child.stdin.close()
        child.wait()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--seconds", type=float, default=1.0)
    options.add_argument("--clients", type=int, default=64)
    options.add_argument("--answers", type=int, default=1_000_000)
    run_as_told(options, serve, run)


if __name__ == "__main__":
    main()
