"""What shadow fusions cost: the same server with none, one and five of them, and one that asks a member of its own.

    OMP_NUM_THREADS=1 python benchmarks/shadow.py [--rounds 15] [--seconds 1] [--clients 64]

Three members in processes of their own, one fusion server, clients in a closed loop, as in tracing.py. Every round
measures every way once, in another order. Ratios are of a round's own pairs: their median, and the middle half. Beside
them: the share of the answered rows that shadows were compared on, and how many calls each member had for a batch. A
fourth member runs all the while; the last way has a shadow that asks it for ``--share`` of the requests.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "serving_peers")]

from benchmarks.engine import PEERS, SPEC  # noqa: E402
from benchmarks.tracing import Server, measure, ratios, run_as_told, start_child, start_server  # noqa: E402
from quorate.deployments.spec.ensemble import EnsembleSpec  # noqa: E402

WAYS = {"none": 0, "1 shadow": 1, "5 shadows": 5, "1 that asks": -1}
_LIVE = ("mlp0", "mlp1", "mlp2")
_OWN = {"model": "mlp:build", "config": {"seed": 3}, "inputs": ["x"]}
_DATA = SPEC.model_dump()
# With a fourth member, that the live fusion does not ask.
_SPEC = EnsembleSpec.model_validate(
    {
        **_DATA,
        "members": {**_DATA["members"], "own": _OWN},
        "fusion": {"rule": "weighted_mean", "weights": {**dict.fromkeys(_LIVE, 1 / 3), "own": 0.0}, "deadline_s": 5.0},
    }
)
_FUSIONS = (
    {"rule": "weighted_mean", "weights": {"mlp0": 0.5, "mlp1": 0.3, "mlp2": 0.2}},
    {"rule": "geometric_mean"},
    {"rule": "median"},
    {"rule": "weighted_mean", "weights": {"mlp0": 0.2, "mlp1": 0.2, "mlp2": 0.6}},
    {"rule": "majority_vote"},
)


def serve(folder: Path) -> None:
    """A server and its members; each line of standard input is which shadows there are from now on, and a share.

    What is answered is how many rows those before have been compared on, and how many no time was left for.
    """
    from quorate.deployments.engine.revision import build_revision
    from quorate.deployments.learning.shadows.asking import Asks

    data = _SPEC.model_dump()
    shared = {**data, "members": _DATA["members"]}
    specs = [{**shared, "fusion": {**fusion, "deadline_s": 5.0}} for fusion in _FUSIONS]
    specs.append({**data, "fusion": {"rule": "mean", "deadline_s": 5.0}})
    *revisions, asking = [build_revision(EnsembleSpec.model_validate(one), PEERS) for one in specs]
    server = start_server(__file__, folder, _SPEC)
    for line in sys.stdin:
        count, share = json.loads(line)
        report = server.with_shadows(lambda shadows: shadows.report())
        compared = [out["rows"] for one in report["shadows"].values() for out in one["outputs"].values()]
        left_out = report["dropped_rows"] + report["given_up_rows"]
        server.use_shadows([], {}, {})  # those that come count anew
        if count < 0:
            server.use_shadows([asking], {}, {asking.name: Asks(share, {"own": "own"})})
        else:
            server.use_shadows(revisions[:count], {}, {})
        print(json.dumps([statistics.mean(compared) if compared else 0.0, left_out]), flush=True)
    server.stop()
    os._exit(0)


def _counted(server: Server) -> tuple[float, float, float]:
    """Rows that were asked for, batches, and calls of members that ended, since the server started."""
    sums = {"quorate_batch_rows_sum": 0.0, "quorate_batch_rows_count": 0.0, "quorate_member_replies_total": 0.0}
    for line in httpx.get(f"{server.url}/metrics").text.splitlines():
        name, _, value = line.rpartition(" ")
        for wanted in sums:
            if name.partition("{")[0] == wanted:
                sums[wanted] += float(value)
    rows, batches, calls = sums.values()
    return rows, batches, calls


def report(found: Sequence[dict[str, dict[str, float]]]) -> None:
    print("| shadows | rate /s | of none | CPU us a request | of none | rows compared | member calls a batch |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for way in found[0]:
        rate, cpu, compared, calls = (
            statistics.median(one[way][what] for one in found) for what in ("rate", "cpu_us", "compared", "calls")
        )
        parts = ratios(found, way, "none", "rate"), ratios(found, way, "none", "cpu_us")
        print(f"| {way} | {rate:,.0f} | {parts[0]} | {cpu:,.0f} | {parts[1]} | {compared:.0%} | {calls:.4f} |")


def run(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="q") as place:
        child = start_child(__file__, "--serve", place)
        server = Server(child)

        def switch(count: int) -> tuple[float, float]:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(f"{json.dumps([count, arguments.share])}\n")
            child.stdin.flush()
            compared, dropped = json.loads(child.stdout.readline())
            return compared, dropped

        found = []
        for _ in range(arguments.rounds):
            one = {}
            for way in random.sample(list(WAYS), len(WAYS)):
                switch(WAYS[way])
                before = _counted(server)
                one[way] = measure(server, arguments.clients, arguments.seconds)
                time.sleep(arguments.after)
                rows, batches, calls = (now - then for now, then in zip(_counted(server), before, strict=True))
                one[way] |= {"compared": switch(0)[0] / rows, "calls": calls / batches}
            found.append({way: one[way] for way in WAYS})
        report(found)
        assert child.stdin is not None
        child.stdin.close()
        child.wait()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--seconds", type=float, default=1.0)
    options.add_argument("--clients", type=int, default=64)
    options.add_argument("--share", type=float, default=0.05, help="of the requests that the last way asks for")
    options.add_argument("--after", type=float, default=0.0, help="seconds without load before rows are counted")
    run_as_told(options, serve, run, _SPEC)


if __name__ == "__main__":
    main()
