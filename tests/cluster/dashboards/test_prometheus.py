"""A real Prometheus reads a real ensemble: every panel shows something, rules hold, alerts fire when they should."""

import socket
import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import trustme
import yaml

import quorate
from quorate.cluster.dashboards.rules import ALERTS, RECORDS
from quorate.deployments import Client, Credentials, parse_spec
from quorate.deployments.security.doors import doors_from_files
from tests.cluster.dashboards.support import WHERE, filled, panel_expressions, program

pytestmark = pytest.mark.skipif(program("prometheus") is None or program("promtool") is None, reason=WHERE)

FACTORIES = Path(__file__).parents[2] / "deployments" / "support" / "factories"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ROW = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return quorate.dashboards(tmp_path_factory.mktemp("monitoring")).files


@pytest.fixture(scope="module")
def door(cluster, pair_spec, tmp_path_factory):
    """An ensemble on Ray behind TLS, with a record and a shadow that asks a member: its URL, its authority's file."""
    from quorate.deployments.control.deploy import delete, deploy
    from quorate.deployments.control.shadows import add_shadow

    folder, ca = tmp_path_factory.mktemp("certificates"), trustme.CA()
    issued = ca.issue_cert("127.0.0.1")
    root, cert, key = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
    ca.cert_pem.write_to_path(root)
    issued.cert_chain_pems[0].write_to_path(cert)
    key.touch(mode=0o600)
    issued.private_key_pem.write_to_path(key)
    small = {"resources": {"num_cpus": 0.1}}
    members = {name: {**member, **small} for name, member in pair_spec["members"].items()}
    fusion, record = {**pair_spec["fusion"], "overload": "thin"}, {"folder": str(folder / "record")}
    spec = {**pair_spec, "name": "watched", "members": members, "fusion": fusion, "record": record, "drift": {}}
    url = deploy(parse_spec(spec), FACTORIES, doors_from_files(tls_cert=cert, tls_key=key)).http
    third = {"a": members["a"], "c": {**members["b"], "config": {"shift": 3}}}
    other = {**spec, "members": third, "fusion": {**fusion, "weights": {"a": 0.5, "c": 0.5}}}
    add_shadow(parse_spec(other), FACTORIES, share=1.0)
    yield url, root
    delete("watched")


@pytest.fixture(scope="module")
def prometheus(door, files, tmp_path_factory):
    """Asks for an expression; the door is scraped, and asked, while the module runs."""
    url, root = door
    folder, port = tmp_path_factory.mktemp("prometheus"), _free_port()
    job = {
        "job_name": "quorate", "scheme": "https", "tls_config": {"ca_file": str(root)},
        "static_configs": [{"targets": [url.removeprefix("https://")]}],
    }  # fmt: skip
    every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (folder / "p.yaml").write_text(
        yaml.safe_dump({"global": every, "rule_files": list(map(str, files[3:])), "scrape_configs": [job]})
    )
    command = [
        program("prometheus"), f"--config.file={folder}/p.yaml", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage", "--log.level=warn",
    ]  # fmt: skip
    with (folder / "log").open("w") as log, httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1") as api:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield api
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def asked(door):
    """Sends some requests, a traced one and one that is wrong among them, and labels for answers."""
    url, root = door
    http = httpx.Client(base_url=url, verify=Credentials(ca=str(root)).context())
    traced = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}

    def ask():
        for headers in ({}, {}, traced):
            answer = http.post("/v2/models/watched/infer", json=ROW, headers=headers).raise_for_status().json()
            label = {"id": answer["parameters"]["answer_id"], "label": "red"}
            http.post("/v2/models/watched/feedback", json={"labels": [label]}).raise_for_status()
        assert http.post("/v2/models/watched/infer", json={"inputs": []}).status_code == 400

    with http:
        yield ask


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def until_all(ask, api, expressions, limit_s=90):
    """Ask until every expression has a result; returns those without one."""
    until, missing = time.monotonic() + limit_s, list(expressions)
    while missing and time.monotonic() < until:
        ask()
        try:
            missing = [text for text in missing if not result(api, text)]
        except httpx.TransportError:  # it starts
            time.sleep(0.2)
    return missing


def result(api, text):
    reply = api.get("/query", params={"query": text}).json()
    assert reply["status"] == "success", (text, reply)
    return reply["data"]["result"]


def test_every_panel_and_every_record_shows_something(prometheus, asked):
    # Weights learn from labels of hundreds of answers.
    asks = [filled(text, "15s") for text in panel_expressions() if "quorate_online" not in text]
    assert until_all(asked, prometheus, [*asks, *RECORDS]) == []


def test_every_rule_is_computed_without_an_error_and_nothing_is_alarming(prometheus, asked):
    def unknown():
        groups = prometheus.get("/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"] if rule["health"] != "ok"]

    assert until_all(asked, prometheus, RECORDS) == []
    until = time.monotonic() + 60
    while unknown() and time.monotonic() < until:
        time.sleep(0.2)
    assert unknown() == []
    firing = prometheus.get("/alerts").json()["data"]["alerts"]
    assert {alert["labels"]["alertname"] for alert in firing if alert["state"] == "firing"} == set()


def test_a_traced_request_can_be_found_from_a_bucket(prometheus, asked):
    assert until_all(asked, prometheus, ["quorate_request_seconds_bucket"]) == []
    until = time.monotonic() + 60
    found: list[dict[str, Any]] = []
    while not found and time.monotonic() < until:
        asked()
        now = datetime.now(timezone.utc).timestamp()
        reply = prometheus.get(
            "/query_exemplars", params={"query": "quorate_request_seconds_bucket", "start": now - 600, "end": now + 60}
        )
        found = [one for series in reply.json()["data"] for one in series["exemplars"]]
    assert {one["labels"]["trace_id"] for one in found} == {TRACE}


def test_promtool_has_nothing_to_say_of_rules_and_of_what_a_door_counts(files, door):
    url, root = door
    with Client(url, credentials=Credentials(ca=str(root))) as client:
        client.infer("watched", {"x": np.zeros((1, 2), np.float32)})
    done = subprocess.run(
        [program("promtool"), "check", "rules", "--lint-fatal", *map(str, files[3:])], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = httpx.get(f"{url}/metrics", verify=Credentials(ca=str(root)).context()).text
    done = subprocess.run([program("promtool"), "check", "metrics"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


MINUTE = "1m"
# By alert the series that call for it, in promtool's notation, and when.
FAULTS = {
    "QuorateDoorGone": (
        {"up{job='q',instance='a'}": "0x60", "quorate_build_info{job='q',instance='b'}": "1x60"}, "10m",
    ),
    "QuorateNotReady": ({"quorate_ready{ensemble='e',instance='a'}": "0x60"}, "10m"),
    "QuorateDeadlineMisses": (
        {
            "quorate_requests_total{ensemble='e',outcome='full',reason=''}": "0+90x60",
            "quorate_requests_total{ensemble='e',outcome='error',reason='deadline'}": "0+10x60",
        },
        "20m",
    ),
    "QuorateFailures": (
        {
            "quorate_requests_total{ensemble='e',outcome='full',reason=''}": "0+90x60",
            "quorate_requests_total{ensemble='e',outcome='error',reason='quorum'}": "0+10x60",
        },
        "20m",
    ),
    "QuorateDegraded": (
        {
            "quorate_requests_total{ensemble='e',outcome='full',reason=''}": "0+90x60",
            "quorate_requests_total{ensemble='e',outcome='degraded',reason='dead'}": "0+10x60",
        },
        "30m",
    ),
    "QuorateMemberLeftOut": ({"quorate_member_replicas{ensemble='e',member='m',state='left_out'}": "1x60"}, "20m"),
    "QuorateMemberGone": ({"quorate_member_replicas{ensemble='e',member='m',state='connected'}": "0x60"}, "20m"),
    "QuorateQueueFull": (
        {"quorate_queued_rows{ensemble='e'}": "900x60", "quorate_queue_limit_rows{ensemble='e'}": "1000x60"}, "20m",
    ),
    "QuorateDrift": (
        {
            "quorate_drift{ensemble='e',output='',member='m',statistic='loss'}": "0x10 1x50",
            "quorate_drift{ensemble='e',output='',member='',statistic='loss'}": "0x60",
        },
        "30m",
    ),
    "QuorateClassDrift": (
        {
            "quorate_sampled_rows_total{ensemble='e',output='fused',class='red'}": "0+10x1440 14400x200",
            "quorate_sampled_rows_total{ensemble='e',output='fused',class='blue'}": "0x1440 0+10x200",
        },
        "26h",
    ),
    "QuorateMemberDrift": (
        {
            "quorate_member_deviation_sum{ensemble='e',member='m'}": "0+1x1440 1440+5x200",
            "quorate_member_deviation_count{ensemble='e',member='m'}": "0+10x1440 14400+10x200",
        },
        "26h",
    ),
    "QuorateRecordDrops": (
        {
            "quorate_recorded_answers_total{ensemble='e',outcome='kept'}": "0+90x60",
            "quorate_recorded_answers_total{ensemble='e',outcome='dropped_store'}": "0+10x60",
        },
        "30m",
    ),
    "QuorateLabelsLost": (
        {
            "quorate_labels_total{ensemble='e',verdict='accepted'}": "0+6x120",
            "quorate_labels_total{ensemble='e',verdict='unknown'}": "0+4x120",
        },
        "90m",
    ),
    "QuorateShadowBetter": (
        {"quorate_shadow_gain{ensemble='e',shadow='s',output='',metric='log_loss',bound='least'}": "0.01x60"}, "20m",
    ),
    "QuorateThinned": ({"quorate_member_thinned_seconds{ensemble='e',member='m'}": "0+60x60"}, "20m"),
    "QuorateCertificateExpires": (
        {"quorate_certificate_expiry_timestamp_seconds{ensemble='e',file='certificate'}": "864000x120"}, "90m",
    ),
    "QuorateCertificateExpired": (
        {"quorate_certificate_expiry_timestamp_seconds{ensemble='e',file='certificate'}": "60x120"}, "90m",
    ),
    "QuorateRevisionsDiffer": (
        {
            "quorate_revision_info{ensemble='e',instance='a',revision='1'}": "1x60",
            "quorate_revision_info{ensemble='e',instance='b',revision='2'}": "1x60",
        },
        "20m",
    ),
    "QuorateDoorRestarts": (
        {
            "process_start_time_seconds{job='q',instance='a'}": "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20",
            "quorate_build_info{job='q',instance='a'}": "1x60",
        },
        "15m",
    ),
}  # fmt: skip


def test_every_alert_fires_on_the_fault_that_it_is_for_and_not_on_health(files, tmp_path):
    assert set(FAULTS) == {alert.name for alert in ALERTS}
    healthy = {
        "up{job='q',instance='a'}": "1x60", "quorate_build_info{job='q',instance='a'}": "1x60",
        "quorate_ready{ensemble='e',instance='a'}": "1x60",
        "quorate_requests_total{ensemble='e',outcome='full',reason=''}": "0+90x60",
        "quorate_requests_total{ensemble='e',outcome='error',reason='invalid'}": "0+90x60",
        "quorate_member_replicas{ensemble='e',member='m',state='connected'}": "1x60",
        "quorate_member_replicas{ensemble='e',member='m',state='left_out'}": "0x60",
        "quorate_recorded_answers_total{ensemble='e',outcome='kept'}": "0+90x60",
        "quorate_recorded_answers_total{ensemble='e',outcome='dropped_store'}": "0x60",
        "quorate_labels_total{ensemble='e',verdict='accepted'}": "0+90x60",
        "quorate_labels_total{ensemble='e',verdict='expired'}": "0+1x60",
        "quorate_shadow_gain{ensemble='e',shadow='s',output='',metric='log_loss',bound='least'}": "-0.01x60",
        "quorate_member_thinned_seconds{ensemble='e',member='m'}": "0x60",
        "quorate_certificate_expiry_timestamp_seconds{ensemble='e',file='certificate'}": "8640000x60",
        "quorate_revision_info{ensemble='e',instance='a',revision='1'}": "1x60",
        "process_start_time_seconds{job='q',instance='a'}": "1x60",
        "quorate_drift{ensemble='e',output='',member='m',statistic='loss'}": "0x60",
    }  # fmt: skip
    tests = [_promtool_test(series, [(name, at, True)]) for name, (series, at) in FAULTS.items()]
    tests.append(_promtool_test(healthy, [(name, "50m", False) for name in FAULTS]))
    file = tmp_path / "tests.yaml"
    file.write_text(
        yaml.safe_dump({"rule_files": list(map(str, files[3:])), "evaluation_interval": MINUTE, "tests": tests})
    )
    done = subprocess.run([program("promtool"), "test", "rules", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[:4000]


def _promtool_test(series, fires):
    """Whether alerts fire is read from Prometheus' own series of them: their labels and texts are not the point."""
    return {
        "interval": MINUTE,
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) > bool 0 or vector(0)',
                "eval_time": at,
                "exp_samples": [{"labels": "{}", "value": int(fires_)}],
            }
            for name, at, fires_ in fires
        ],
    }
