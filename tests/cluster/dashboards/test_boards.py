"""Boards and rules: Grafana's own library reads them, and what they ask for is what a door counts, label by label."""

import itertools
import json

import httpx
import numpy as np
import promql_parser
import pytest
import trustme
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client.openmetrics.parser import text_string_to_metric_families

import quorate
from quorate.cluster.dashboards.rules import ALERTS, RECORDS
from quorate.cluster.operations.exports.dashboards import BOARDS
from quorate.deployments import Client, Credentials, parse_spec
from quorate.deployments.engine.revision import build_revision
from quorate.deployments.errors import ClusterError
from quorate.deployments.learning.shadows.asking import Asks
from quorate.deployments.security.doors import doors_from_files
from tests.cluster.dashboards.support import LEARNED, expressions, filled
from tests.deployments.support.member_threads import FACTORIES
from tests.deployments.support.waiting import until

# Of Prometheus itself, of every scrape.
OF_SCRAPES = {"up": {"job", "instance"}}
OPEN_METRICS = {"accept": "application/openmetrics-text; version=1.0.0"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def scrape(open_doors, pair_spec, tmp_path_factory):
    """What a door says after two requests: one with certificates, a record, labels, a shadow that asks a member."""
    folder, ca = tmp_path_factory.mktemp("certificates"), trustme.CA()
    issued = ca.issue_cert("127.0.0.1")
    paths = [folder / name for name in ("ca.pem", "cert.pem", "key.pem")]
    ca.cert_pem.write_to_path(paths[0])
    issued.cert_chain_pems[0].write_to_path(paths[1])
    paths[2].touch(mode=0o600)
    issued.private_key_pem.write_to_path(paths[2])
    fusion, record = {**pair_spec["fusion"], "overload": "thin"}, {"folder": str(folder / "record")}
    spec = {**pair_spec, "name": "scraped", "fusion": fusion, "record": record, "drift": {}}
    doors = open_doors(spec, doors_from_files(tls_cert=paths[1], tls_key=paths[2]))
    shadow = build_revision(parse_spec({**spec, "fusion": {**fusion, "weights": {"a": 0.5, "b": 0.5}}}), FACTORIES)
    doors.server.use_shadows([shadow], {}, {shadow.name: Asks(1.0, {"b": "b"})})
    until(lambda: doors.server.drift()["revision"])
    doors.engine.metrics.state.record_number = 7  # a registry is Ray's
    doors.engine.metrics.state.online = LEARNED
    credentials = Credentials(ca=str(paths[0]))
    with httpx.Client(base_url=doors.http, verify=credentials.context()) as http:
        body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
        for flags in ("01", "00"):
            traceparent = f"00-{TRACE if flags == '01' else TRACE[::-1]}-00f067aa0ba902b7-{flags}"
            reply = http.post("/v2/models/scraped/infer", json=body, headers={"traceparent": traceparent})
            label = {"id": reply.json()["parameters"]["answer_id"], "label": "red"}
            http.post("/v2/models/scraped/feedback", json={"labels": [label]}).raise_for_status()
        for last in ("quorate_shadow_gain{", 'bound="least"', "quorate_record_bytes{"):
            until(lambda: last in http.get("/metrics").text)  # noqa: B023
        reply = http.get("/metrics", headers=OPEN_METRICS)
        plain = http.get("/metrics")
    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(reply.text))
    return [sample for family in families for sample in family.samples], families, folder


@pytest.fixture(scope="module")
def labels(scrape):
    """By name of a series the labels that it has; records have those that they are added up by."""
    found = dict(OF_SCRAPES)
    for sample in scrape[0]:
        found[sample.name] = {*sample.labels, "job", "instance"}
    return found | {name: set(name.split(":")[0].split("_")) for name in RECORDS}


def test_there_are_three_boards_and_thirty_panels_of_different_titles():
    assert len(BOARDS) == 3
    titles = [panel.title for board in BOARDS for panel in board.panels]
    assert len(set(titles)) == len(titles) >= 30
    queries = [query.text for board in BOARDS for panel in board.panels for query in panel.queries]
    assert len(set(queries)) == len(queries)


def test_grafanas_own_library_reads_every_board_and_no_panels_overlap(tmp_path):
    files = quorate.dashboards(tmp_path / "monitoring").files
    for board, file in zip(BOARDS, files, strict=False):
        written = json.loads(file.read_text())
        read = Dashboard.from_json(written)
        assert (read.uid, read.title) == (board.name, board.title)
        assert sum(panel.type_val != "row" for panel in read.panels) == len(board.panels)
        again = json.loads(json.dumps(read.to_json(), cls=JSONEncoder))
        assert [p["title"] for p in again["panels"]] == [p["title"] for p in written["panels"]]
        places = [panel["gridPos"] for panel in written["panels"]]
        for one, other in itertools.combinations(places, 2):
            apart = [
                one[at] + one[size] <= other[at] or other[at] + other[size] <= one[at] for at, size in ("xw", "yh")
            ]
            assert any(apart), (one, other)


def test_every_expression_asks_for_series_and_labels_that_a_real_scrape_has(labels):
    asked = set()

    def look(node):
        if isinstance(node, promql_parser.VectorSelector):
            asked.add(node.name)
            unknown = {matcher.name for matcher in node.matchers.matchers} - labels[node.name]
            assert not unknown, f"{node} has no {unknown}"

    for text in expressions():
        promql_parser.walk(promql_parser.parse(filled(text)), look)
    ours = {name for name in labels if name.startswith("quorate_") and not name.endswith(("_created", "_count"))}
    histograms = {name for name in ours if name.endswith("_sum") and name.replace("_sum", "_bucket") in ours}
    assert ours - asked - histograms == set()


def test_names_of_metrics_follow_the_conventions_of_prometheus(scrape):
    for family in scrape[1]:
        assert family.documentation, family.name
        assert not family.name.endswith(("_ms", "_s", "_total", "_count", "_sum", "_bucket")), family.name
        if family.type == "counter":
            assert {sample.name for sample in family.samples} <= {f"{family.name}_total", f"{family.name}_created"}


def test_a_bucket_shows_a_traced_request_and_only_one_whose_trace_is_kept(scrape):
    shown = {sample.exemplar.labels["trace_id"] for sample in scrape[0] if sample.exemplar}
    assert shown == {TRACE}


def test_a_certificates_last_day_is_the_certificates(scrape):
    from cryptography import x509

    (found,) = [s for s in scrape[0] if s.name == "quorate_certificate_expiry_timestamp_seconds"]
    assert found.labels == {"ensemble": "scraped", "file": "certificate"}
    certificate = x509.load_pem_x509_certificate((scrape[2] / "cert.pem").read_bytes())
    assert found.value == certificate.not_valid_after_utc.timestamp()


def test_files_of_rules_hold_every_rule_and_a_folder_that_cannot_be_written_is_named(tmp_path):
    *_, records, alerts = quorate.dashboards(tmp_path).files
    (group,) = yaml.safe_load(records.read_text())["groups"]
    assert {rule["record"]: rule["expr"] for rule in group["rules"]} == dict(RECORDS)
    (group,) = yaml.safe_load(alerts.read_text())["groups"]
    assert [rule["alert"] for rule in group["rules"]] == [alert.name for alert in ALERTS]
    (tmp_path / "file").write_text("")
    with pytest.raises(ClusterError, match=r"--out .*file cannot be written to"):
        quorate.dashboards(tmp_path / "file")


def test_where_processes_share_a_port_each_series_says_whose_it_is(open_doors, pair_spec):
    doors = open_doors({**pair_spec, "name": "several", "serving": {"replicas": {"min": 2, "max": 2}}})
    with Client(doors.http) as client:
        client.infer("several", {"x": np.zeros((1, 2), np.float32)})
    text = httpx.get(f"{doors.http}/metrics", headers=OPEN_METRICS).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert len({sample.labels["pid"] for sample in samples}) == 1
