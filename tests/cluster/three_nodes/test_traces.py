"""One request as a receiver of traces sees it: through a door on one node, to members on others."""

import json
import sys

import pytest

from tests.cluster.three_nodes.cluster import PLACES
from tests.cluster.three_nodes.machine import address, wait_for
from tests.cluster.three_nodes.oracle import ensemble

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PORT = 4317
# Asks from outside, with the trace that is its number, and prints what the answer says of it.
ASK = """
import httpx, sys
row = {"name": "row", "datatype": "INT64", "shape": [1, 3], "data": [1, 0, 0]}
headers = {"traceparent": sys.argv[2]}
reply = httpx.post(f"{sys.argv[1]}/v2/models/traced/infer", json={"inputs": [row]}, headers=headers, timeout=30)
print(reply.status_code, reply.headers["traceparent"])
"""


def test_a_request_is_one_trace_of_spans_from_several_processes_on_two_nodes(nodes):
    file = nodes.folder / "spans.json"
    module = ("tests.deployments.support.otlp_receiver", address(254), str(PORT), str(file))
    receiver = nodes.outside.python(*module, env=nodes._env, log=nodes.folder / "receiver.log")
    assert receiver.stdout.readline() == "ready\n"
    spec = nodes.spec_file(ensemble("traced", deadline_s=20.0))
    endpoint = f"http://{address(254)}:{PORT}"
    words = ("--host", "0.0.0.0", "--insecure", "--otlp-endpoint", endpoint, "--trace-ratio", "0")
    deployed = nodes.quorate(1, "deploy", spec, *words)
    said = deployed.communicate(timeout=300)[0]
    assert deployed.returncode == 0, said
    port = nodes.driver().do("fusion", name="traced")[0]["http"].rpartition(":")[2]

    def spans():
        receiver.stdin.write("\n")
        assert receiver.stdout.readline() == "written\n"
        return json.loads(file.read_text())

    def traced(place, found):
        return [span for span in found if int(span["trace"], 16) == place]

    for place in PLACES:
        parent = f"00-{place:032x}-00f067aa0ba902b7-01"
        status, answered = nodes.outside.run(
            sys.executable, "-c", ASK, f"http://{address(place)}:{port}", parent
        ).split()  # fmt: skip
        assert (status, answered.split("-")[1]) == ("200", f"{place:032x}")
    try:
        wait_for(lambda: all(len(traced(place, spans())) >= 10 for place in PLACES), "all spans have come")
        found = [traced(place, spans()) for place in PLACES]
        mine = next(mine for mine in found if len({span["host"] for span in mine}) >= 2)
    finally:
        receiver.communicate(timeout=30)
        nodes.driver().do("down", name="traced")
    assert len({(span["host"], span["pid"]) for span in mine}) >= 3
    assert {span["service"] for span in mine} == {"traced", "traced/a", "traced/b", "traced/c"}
    forwards = [span for span in mine if span["name"].startswith("forward")]
    calls = {span["span"] for span in mine if span["name"].startswith("call")}
    assert {span["parent"] for span in forwards} == calls
    assert not any(span["failed"] for span in mine)
