"""Publishing over the protocol: a fusion that arrives at one door goes live on every replica, or on none."""

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from quorate.deployments import Client, parse_spec
from quorate.deployments.errors import NotFoundError, RequestError, UnavailableError, UnsupportedError
from quorate.deployments.spec.digests import pin
from quorate.deployments.wire import open_inference_pb2 as pb
from tests.deployments.support.known_answers import known_answers, two_known, weighted_answers
from tests.deployments.support.traffic import Traffic
from tests.deployments.support.waiting import until

FACTORIES = Path(__file__).parents[1] / "support" / "factories"
ROWS = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
LITTLE = {"num_cpus": 0.1}
SPEC: dict[str, Any] = {
    **two_known("published", resources=LITTLE),
    "serving": {"replicas": {"min": 2, "max": 2}, "resources": LITTLE},
}


def known(shift):
    return known_answers(ROWS, shift)


def weighted(weight):
    return weighted_answers(ROWS, weight)


def config(weight):
    return {"weights": {"a": weight, "b": round(1 - weight, 6)}}


def revision(weight):
    """The name that the spec with these weights has, wherever it is computed."""
    fusion = {**SPEC["fusion"], **config(weight)}
    return pin(parse_spec({**SPEC, "fusion": fusion}), FACTORIES).revision


@pytest.fixture(scope="module")
def deployed(cluster):
    from quorate.deployments.control.deploy import delete, deploy

    yield deploy(parse_spec(SPEC), FACTORIES)
    delete("published")


@pytest.fixture
def client(deployed):
    with Client(deployed.http, model="published") as client:
        client.publish(config(0.5))
        yield client


def registry():
    from quorate.deployments.control.ray_private import ClusterStore
    from quorate.deployments.records.registry import Registry

    return Registry(ClusterStore())


def record():
    return registry().latest("published")


def live(url):
    """The revision that some replica answers with; each new connection may meet another one."""
    with Client(url, model="published") as client:
        return client.infer(x=ROWS).parameters["revision"]


@pytest.mark.parametrize(
    ("publications", "requests"),
    [(4, 0), pytest.param(20, 100_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])],
)
def test_under_traffic_each_answer_is_of_exactly_one_revision_and_none_is_lost(
    deployed, client, publications, requests
):
    published = [round(0.03 + 0.9 * number / publications, 6) for number in range(publications)]
    weights = {revision(weight): weight for weight in (0.5, *published)}
    twenty = {"per_connection": 20, "pause_s": 0 if requests else 0.01}  # to both of the replicas
    with Traffic(deployed.http, "published", {"x": ROWS}, **twenty) as traffic:
        for number, weight in enumerate(published, 1):
            client.publish(config(weight))
            found = {live(deployed.http) for _ in range(10)}
            assert found == {revision(weight)}, "after a publication no replica answers with an older revision"
            until(lambda number=number: len(traffic.answers) >= requests * number / publications, timeout_s=600)
    assert not traffic.failures
    assert traffic.revisions() == set(weights)
    rights = {name: weighted(weight) for name, weight in weights.items()}
    for answer in traffic.answers:
        np.testing.assert_allclose(answer.outputs["fused"], rights[answer.parameters["revision"]], atol=1e-6)


def test_what_was_published_over_the_protocol_rolls_back(deployed, client):
    from quorate.deployments.control.deploy import rollback

    client.publish(config(0.2))
    client.publish({"rule": "geometric_mean", "weights": None, "quorum": 2})
    answer = client.infer(x=ROWS).outputs["fused"]
    product = np.sqrt(known(1) * known(-2))
    np.testing.assert_allclose(answer, product / product.sum(axis=1, keepdims=True), atol=1e-6)
    rollback("published")
    assert {live(deployed.http) for _ in range(6)} == {revision(0.2)}


def test_grpc_publishes_too(deployed, client):
    request = pb.RepositoryModelLoadRequest(model_name="published")
    request.parameters["config"].string_param = json.dumps({"fusion": config(0.4)})
    with grpc.insecure_channel(deployed.grpc) as channel:
        path = "/inference.GRPCInferenceService/RepositoryModelLoad"
        load = channel.unary_unary(
            path, pb.RepositoryModelLoadRequest.SerializeToString, pb.RepositoryModelLoadResponse.FromString
        )
        load(request, timeout=60)
        assert {live(deployed.http) for _ in range(6)} == {revision(0.4)}
        request.parameters["config"].string_param = '{"fusion": {"rule": "nobody"}}'
        with pytest.raises(grpc.RpcError) as error:
            load(request, timeout=60)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "rule" in error.value.details()
    assert {live(deployed.http) for _ in range(6)} == {revision(0.4)}


def test_partial_publications_at_once_are_all_live_in_the_end(deployed, client):
    """Each changes something else; whoever read what was live before its turn would take the others' changes back."""
    partial = [{"weights": {"a": 0.15, "b": 0.85}}, {"deadline_s": 4.0}, {"quorum": 2}, {"required": ["b"]}]

    def publish(fusion):
        with Client(deployed.http, model="published", timeout_s=60) as mine:
            mine.publish(fusion)

    publishing = [threading.Thread(target=publish, args=(fusion,)) for fusion in partial]
    for thread in publishing:
        thread.start()
    for thread in publishing:
        thread.join()
    last = record().live.spec
    assert last.fusion.model_dump(include={"weights", "deadline_s", "quorum"}) == {
        "weights": {"a": 0.15, "b": 0.85}, "deadline_s": 4.0, "quorum": 2,
    }  # fmt: skip
    assert last.fusion.required == ("b",)
    assert {live(deployed.http) for _ in range(10)} == {last.revision}
    client.publish({"deadline_s": 5.0, "quorum": 1, "required": []})


def test_a_replica_that_missed_a_publication_takes_it_up(deployed, client):
    """As one does that was starting: the record is there, but nobody told it."""
    missed = pin(parse_spec({**SPEC, "fusion": {**SPEC["fusion"], **config(0.6)}}), FACTORIES)
    before = record()
    registry().write(before.following(replace(before.live, spec=missed)))
    until = time.monotonic() + 20
    while {live(deployed.http) for _ in range(6)} != {missed.revision}:
        assert time.monotonic() < until, "the replicas never took up the recorded revision"
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("sent", "kind", "sentence"),
    [
        ({"fusion": {"state": "weights.safetensors"}}, RequestError, "names a file"),
        ({"fusion": {"rule": "stacking", "state": "../../etc/passwd"}}, RequestError, "names a file"),
        (
            {"fusion": {"calibration": {"state": "a.safetensors"}}},
            RequestError,
            "fusion.calibration.state names a file",
        ),
        ({"fusion": {"member_calibration": {"a": {"state": "/etc/passwd"}}}}, RequestError, "a.state names a file"),
        ({"fusion": {"model": "os:system"}}, RequestError, "fusion.model is unknown"),
        ({"members": {"a": {"model": "os:system"}}}, RequestError, "changes only the fusion"),
        ({"fusion": {}, "inputs": {}}, RequestError, "changes only the fusion"),
        ({"fusions": {"other": {}}}, RequestError, "no object of fusions"),
        ({"fusion": []}, RequestError, "send an object"),
        ({"fusion": {"weights": {"a": -1, "b": 2}}}, RequestError, "weights"),
        ({"fusion": {"weights": {"nobody": 1}}}, RequestError, "nobody"),
        ({"fusion": {"rule": "median"}}, RequestError, "weights"),
        ({"fusion": {"deadline_s": 0}}, RequestError, "deadline_s"),
        ({"fusion": {"quorum": 3}}, RequestError, "quorum"),
    ],
)
def test_a_config_that_is_no_revision_is_refused_and_changes_nothing(deployed, client, sent, kind, sentence):
    before = registry().number("published")
    body = {"parameters": {"config": json.dumps(sent)}}
    reply = httpx.post(f"{deployed.http}/v2/repository/models/published/load", json=body)
    assert reply.status_code == 400, reply.text
    assert sentence in reply.json()["error"]
    assert registry().number("published") == before
    assert {live(deployed.http) for _ in range(4)} == {revision(0.5)}


def test_loading_anything_but_a_revision_of_the_ensemble_is_refused(deployed, client):
    with pytest.raises(UnsupportedError, match="'a' is a member"):
        client.publish(config(0.5), "a")
    with pytest.raises(NotFoundError, match="'nobody' is not found"):
        client.publish(config(0.5), "nobody")
    for parameters, status, sentence in (
        ({}, 503, "explicit model load / unload is not allowed"),
        ({"config": "{"}, 400, "config is not JSON"),
        ({"config": 3}, 400, "send a string of JSON"),
        ({"config": "{}", "file:1/model.pt": "AAAA"}, 400, "files come with the spec"),
    ):
        reply = httpx.post(f"{deployed.http}/v2/repository/models/published/load", json={"parameters": parameters})
        assert reply.status_code == status
        assert sentence in reply.json()["error"]


def test_a_server_without_a_cluster_says_that_nothing_can_be_published(pair):
    with Client(pair.http, model="pair") as client, pytest.raises(UnavailableError, match="stands alone"):
        client.publish({"weights": {"a": 1, "b": 2}})
