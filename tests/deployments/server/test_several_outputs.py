"""Several outputs in one answer, over every wire: each has its own rule, members, deadline and accounts."""

import asyncio
import json
import shlex

import grpc
import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from prometheus_client.parser import text_string_to_metric_families

from quorate.deployments import AsyncClient, Client
from quorate.deployments.errors import DeadlineError, RequestError, UnavailableError
from quorate.deployments.wire import open_inference_pb2 as pb
from quorate.fusion.errors import QuorumError
from tests.deployments.support.waiting import until

ROWS = np.random.default_rng(8).normal(size=(40, 2)).astype(np.float32)
MOODS, TOPICS = ["sad", "meh", "glad"], ["art", "sport", "war"]


def known(shift, rows=ROWS):
    """The right answer of ``factories/known.py``, computed in float64 from its definition."""
    x = rows.astype(np.float64)
    scores = np.stack([x[:, 0] + shift, x[:, 1] - shift, x[:, 0] * x[:, 1]], axis=1)
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


def member(factory, **config):
    return {"model": f"known:{factory}", "config": config, "inputs": ["x"], "output": "probabilities"}


def fusion(*members, **fields):
    return {"rule": "mean", "members": list(members), "deadline_s": 5.0, **fields}


@pytest.fixture(scope="module")
def switch(tmp_path_factory):
    """What the member ``late`` does: how many seconds it sleeps."""
    file = tmp_path_factory.mktemp("late") / "switch"
    file.write_text("0")
    return file


@pytest.fixture(scope="module")
def desk(open_doors, switch):
    weighted = {"rule": "weighted_mean", "weights": {"a": 0.25, "b": 0.75}}
    return open_doors({
        "name": "desk",
        "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
        "members": {
            "a": member("known", shift=1), "b": member("known", shift=-2),
            "late": member("slow", shift=3, switch=str(switch), log=f"{switch}.log"),
            "picky": member("picky", shift=2), "number": {**member("known", shift=0), "output": "values"},
        },
        "fusions": {
            "mood": fusion("a", "b", classes=MOODS, **weighted),
            "topic": fusion("a", "late", "picky", classes=MOODS, deadline_s=1.5),
            "only": fusion("late", classes=MOODS, deadline_s=1.0),
            "score": fusion("number"),
        },
        "outputs": ["mood", "topic", "only", "score"],
    })  # fmt: skip


SHIFTS = {"a": 1, "b": -2, "late": 3, "picky": 2, "number": 0}
WEIGHTS = {"mood": {"a": 0.25, "b": 0.75}}


def expected(output, said, rows=ROWS):
    """The fusion of exactly the members that the answer names."""
    names = said["members_used"].split(",")
    weights = WEIGHTS.get(output, dict.fromkeys(names, 1.0))
    return sum(weights[n] * known(SHIFTS[n], rows) for n in names) / sum(weights[n] for n in names)


@pytest.fixture
def client(desk):
    with Client(desk.http, model="desk") as client:
        yield client


def test_each_output_is_its_own_fusion_and_says_so(client):
    answer = client.infer(x=ROWS)
    assert list(answer.outputs) == ["mood", "topic", "only", "score"]
    used = {name: answer[name].parameters["members_used"] for name in answer.outputs}
    assert used == {"mood": "a,b", "topic": "a,late,picky", "only": "late", "score": "number"}
    for name in answer.outputs:
        result = answer[name]
        np.testing.assert_allclose(result.outputs[name], expected(name, result.parameters), rtol=1e-5)
        assert result.classes == (() if name == "score" else tuple(MOODS))
    assert answer.parameters["members_used"] == "a,b,late,number,picky"
    assert len({said["revision"] for said in (answer.parameters, *answer.output_parameters.values())}) == 1


def test_outputs_are_asked_for_by_name(client):
    assert list(client.infer(x=ROWS, outputs=["score", "mood"]).outputs) == ["score", "mood"]
    with pytest.raises(RequestError, match="unexpected inference output 'fused' for model 'desk'; it gives mood"):
        client.infer(x=ROWS, outputs=["fused"])


def test_a_late_member_costs_its_own_outputs_and_no_other(client, switch):
    """topic answers without it at its own deadline, and mood does not wait for that."""
    client.infer(x=ROWS)  # all are there
    switch.write_text("hold")
    try:
        answer = client.infer(x=ROWS)
        assert list(answer.outputs) == ["mood", "topic", "score"]
        assert answer.parameters["outputs_missing"] == "only:deadline"
        assert answer.parameters["degraded"] is True
        said = {name: answer[name].parameters for name in answer.outputs}
        assert [said[name]["degraded"] for name in said] == [False, True, False]
        assert said["topic"]["members_missing"] == "late:deadline"
        for name, result in said.items():
            np.testing.assert_allclose(answer.outputs[name], expected(name, result), rtol=1e-5)
        with pytest.raises(DeadlineError):
            client.infer(x=ROWS, outputs=["mood", "only"])
        assert client.infer(x=ROWS, outputs=["mood"]).parameters["degraded"] is False
    finally:
        switch.write_text("0")
        until(lambda: not client.infer(x=ROWS).parameters["degraded"])


def test_a_member_of_two_outputs_is_asked_once(client, switch):
    client.infer(x=ROWS)
    log = switch.with_name(f"{switch.name}.log")
    before = len(log.read_text().splitlines())
    client.infer(x=ROWS, outputs=["topic", "only"])
    assert len(log.read_text().splitlines()) == before + len(ROWS)


def test_clients_that_hang_up_leave_nothing_behind(desk, switch):
    switch.write_text("hold")

    async def hang_up():
        async with AsyncClient(desk.http, model="desk") as client:
            calls = [asyncio.ensure_future(client.infer(x=ROWS)) for _ in range(30)]
            await asyncio.wait(calls, timeout=0.2)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    try:
        asyncio.run(hang_up())
        until(lambda: not desk.engine._open)
        until(lambda: desk.service.budget.held_bytes == 0)
    finally:
        switch.write_text("0")
    with Client(desk.http, model="desk") as client:
        until(lambda: not client.infer(x=ROWS).parameters["degraded"])
    until(lambda: desk.engine.unanswered_batches == 0)


def test_among_many_requests_each_output_is_the_fusion_of_those_it_names(desk, switch):
    """Requests of other rows, outputs, members and deadlines at once, while one member is now and then late."""
    rng, asked = np.random.default_rng(9), 300
    rows = rng.normal(size=(asked, 2, 2)).astype(np.float32)
    wanted = [rng.permutation(["mood", "topic", "score"])[: 1 + number % 3].tolist() for number in range(asked)]

    async def ask(client, number):
        await asyncio.sleep(number / 300)
        if number % 60 == 30:
            switch.write_text("0.2" if number % 120 == 30 else "0")
        deadline = {"deadline_ms": 50} if number % 7 == 0 else {}
        return await client.infer(x=rows[number], outputs=wanted[number], **deadline)

    async def all_of_them():
        async with AsyncClient(desk.http, model="desk") as client:
            return await asyncio.gather(*(ask(client, number) for number in range(asked)), return_exceptions=True)

    try:
        answers = asyncio.run(all_of_them())
    finally:
        switch.write_text("0")
        with Client(desk.http, model="desk") as client:  # what it was asked is over
            until(lambda: not client.infer(x=ROWS).parameters["degraded"])
    degraded = 0
    for number, answer in enumerate(answers):
        if isinstance(answer, DeadlineError | UnavailableError):
            continue
        assert list(answer.outputs) == wanted[number]
        for name in answer.outputs:
            said = answer[name].parameters
            degraded += said["degraded"]
            np.testing.assert_allclose(answer.outputs[name], expected(name, said, rows[number]), rtol=1e-4, atol=1e-6)
    assert sum(isinstance(answer, Exception) for answer in answers) < asked / 10
    assert degraded


def test_rows_that_one_member_cannot_answer_are_missing_from_its_output_alone(client):
    rows = ROWS.copy()
    rows[3, 0] = 14  # picky gives NaN
    answer = client.infer(x=rows)
    topic = answer["topic"].parameters
    assert (topic["members_missing"], topic["rows_missing"]) == ("picky:nonfinite", "picky:3")
    assert "rows_missing" not in answer["mood"].parameters
    others = np.delete(np.arange(len(rows)), 3)
    np.testing.assert_allclose(answer.outputs["topic"][others], expected("topic", topic, rows)[others], rtol=1e-5)
    without = (known(1, rows[3:4]) + known(3, rows[3:4])) / 2
    np.testing.assert_allclose(answer.outputs["topic"][3:4], without, rtol=1e-5)


def test_members_and_explanations_are_those_of_each_output(client):
    answer = client.infer(x=ROWS, members="a", explain=True)
    assert list(answer.output_parameters) == ["mood", "topic"]
    np.testing.assert_allclose(answer["mood"].outputs["a.output"], known(1), rtol=1e-5)
    np.testing.assert_allclose(answer["topic"].outputs["a.contribution"], np.ones(len(ROWS)))
    with pytest.raises(RequestError, match="parameter members names none of output 'only'; add one of late"):
        client.infer(x=ROWS, members="a", outputs=["only"])
    assert len(answer.tables()) == 4
    assert {"mood.label", "topic.label", "mood.sad"} <= set(answer.to_pandas().columns)


def test_frames_have_the_columns_of_each_output(client):
    frame = client.infer(pd.DataFrame({"x": list(ROWS)}), outputs=["mood", "score"]).to_pandas()
    assert list(frame.columns) == ["mood.label", *(f"mood.{name}" for name in MOODS), *(f"score.{n}" for n in range(3))]


def test_metadata_list_the_outputs_with_their_classes(desk, client):
    described = client.metadata()["outputs"]
    assert [item["name"] for item in described] == ["mood", "topic", "only", "score"]
    assert json.loads(described[1]["parameters"]["classes"]) == MOODS
    assert "parameters" not in described[3]
    config = httpx.get(f"{desk.http}/v2/models/desk/config").json()
    assert list(json.loads(config["parameters"]["fusions"]["string_value"])) == ["mood", "topic", "only", "score"]


def test_json_and_kserves_first_protocol_have_them_by_name(desk):
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": ROWS[0].tolist()}
    best = [{"name": "topic", "parameters": {"classification": 1}}, {"name": "mood"}]
    outputs = httpx.post(f"{desk.http}/v2/models/desk/infer", json={"inputs": [tensor], "outputs": best}).json()[
        "outputs"
    ]
    assert [item["name"] for item in outputs] == ["topic", "mood"]
    assert outputs[0]["data"][0].rpartition(":")[2] in MOODS
    assert outputs[1]["parameters"]["members_used"] == "a,b"
    reply = httpx.post(f"{desk.http}/v1/models/desk:predict", json={"instances": ROWS[:1].tolist()}).json()
    assert list(reply["predictions"][0]) == ["mood", "topic", "only", "score"]
    assert reply["classes"]["mood"] == MOODS


def test_over_grpc_each_output_has_its_parameters(desk):
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=ROWS.shape)
    wanted = [pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in ("score", "mood")]
    request = pb.ModelInferRequest(
        model_name="desk", inputs=[tensor], outputs=wanted, raw_input_contents=[ROWS.tobytes()]
    )
    with grpc.insecure_channel(desk.grpc) as channel:
        path, kinds = "/inference.GRPCInferenceService/ModelInfer", (type(request), pb.ModelInferResponse)
        stub = channel.unary_unary(path, kinds[0].SerializeToString, kinds[1].FromString)
        reply = stub(request, timeout=20)
    assert [item.name for item in reply.outputs] == ["score", "mood"]
    assert reply.outputs[1].parameters["members_used"].string_param == "a,b"
    found = np.frombuffer(reply.raw_output_contents[1], np.float32).reshape(len(ROWS), 3)
    np.testing.assert_allclose(found, 0.25 * known(1) + 0.75 * known(-2), rtol=1e-5)


def test_arrow_streams_have_a_column_for_each_and_take_names(client):
    table = pa.table({"x": pa.FixedShapeTensorArray.from_numpy_ndarray(ROWS)})
    (answer,) = client.infer_arrow(table)
    assert answer.batch.schema.names == ["mood", "topic", "only", "score"]
    assert answer.output_parameters["topic"]["members_used"] == "a,late,picky"
    (answer,) = client.infer_arrow(table, outputs=["score"])
    assert answer.batch.schema.names == ["score"]
    with pytest.raises(RequestError, match="output 'score' is given twice"):
        list(client.infer_arrow(table, outputs=["score", "score"]))


def test_where_no_output_has_an_answer_there_is_an_error(open_doors, desk):
    doors = open_doors({
        "name": "gone", "inputs": {"x": {"datatype": "FP32", "shape": [2]}}, "classes": MOODS,
        "members": {"a": member("known", shift=1), "b": member("known", shift=2)},
        "fusions": {"one": fusion("a"), "two": fusion("b")}, "outputs": ["one", "two"],
    })  # fmt: skip
    with Client(doors.http, model="gone") as client:
        doors.stop_members("b")
        assert client.infer(x=ROWS).parameters["outputs_missing"].startswith("two:")
        doors.stop_members("a")
        with pytest.raises(QuorumError):
            client.infer(x=ROWS)


def counted(desk):
    """Answers by output, outcome and reason, without zeros."""
    found = {}
    for family in text_string_to_metric_families(httpx.get(f"{desk.http}/metrics").text):
        for one in family.samples:
            if one.name == "quorate_output_answers_total" and one.value:
                found[one.labels["output"], one.labels["outcome"], one.labels["reason"]] = one.value
    return found


def test_metrics_count_what_became_of_each_output(desk, client, switch):
    until(lambda: not client.infer(x=ROWS).parameters["degraded"])
    before = counted(desk)
    client.infer(x=ROWS)
    client.infer(x=ROWS, outputs=["mood"])
    switch.write_text("hold")
    try:
        client.infer(x=ROWS)
    finally:
        switch.write_text("0")
        until(lambda: not client.infer(x=ROWS, outputs=["topic"]).parameters["degraded"])
    rows = ROWS.copy()
    rows[:, 0] = 13  # nobody of topic but a and late takes them
    client.infer(x=rows, outputs=["topic"])
    after = counted(desk)
    more = {key: after[key] - before.get(key, 0) for key in after}
    assert more["mood", "full", ""] == 3
    assert more["score", "full", ""] == 2
    assert (more["only", "full", ""], more["only", "error", "deadline"]) == (1, 1)
    assert more["topic", "degraded", "deadline"] >= 1
    assert more["topic", "degraded", "error"] == 1


def test_a_line_of_curl_asks_for_the_outputs_by_name(desk, client):
    line = client.curl(x=ROWS[:2], outputs=["score", "mood"])
    body = shlex.split(line)[-1]
    assert [one["name"] for one in json.loads(body)["outputs"]] == ["score", "mood"]
    reply = httpx.post(f"{desk.http}/v2/models/desk/infer", content=body).json()
    assert [one["name"] for one in reply["outputs"]] == ["score", "mood"]


def values(columns):
    return {"model": "several:columns", "config": {"columns": columns}, "inputs": ["x"], "output": "values"}


@pytest.fixture(scope="module")
def mixed(open_doors):
    """Labels that hold or not, quantiles with intervals, scores that rank the rows of a request, two classes."""
    conformal = {"coverage": 0.9, "thresholds": [{"members": ["low", "high"], "threshold": 0.25}]}
    return open_doors({
        "name": "mixed", "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
        "members": {
            "shares": {**values([0, 1]), "model": "several:shares", "output": "probabilities"},
            "low": values([0, 0, 0]), "high": values([1, 1, 1]), "up": values([0]), "down": values([1]),
        },
        "fusions": {
            "genre": fusion("shares", classes=["art", "war"], task="multilabel"),
            "price": fusion("low", "high", conformal=conformal, rule="quantile_average", quantiles=[0.1, 0.5, 0.9]),
            "rank": fusion("up", "down", rule="list_reciprocal_rank"),
        },
        "outputs": ["genre", "price", "rank"],
    })  # fmt: skip


def test_each_output_is_of_its_own_task(mixed):
    with Client(mixed.http, model="mixed") as client:
        answer = client.infer(x=ROWS)
    shares = 1 / (1 + np.exp(-ROWS.astype(np.float64)))
    assert answer["genre"].labels == [
        [name for name, share in zip(["art", "war"], row, strict=True) if share >= 0.5] for row in shares
    ]
    np.testing.assert_allclose(answer.outputs["price"], ROWS.mean(axis=1, keepdims=True).repeat(3, axis=1), rtol=1e-5)
    low, high = np.array(answer["price"].prediction_intervals).T
    np.testing.assert_allclose([low, high], [ROWS.mean(axis=1) - 0.25, ROWS.mean(axis=1) + 0.25], atol=1e-5)
    places = np.argsort(np.argsort(-ROWS, axis=0), axis=0) + 1.0  # of each score among those of the request
    reciprocal = (1 / (60 + places)).sum(axis=1)
    assert np.argsort(answer.outputs["rank"][:, 0]).tolist() == np.argsort(reciprocal).tolist()


def test_requests_that_travel_together_are_ranked_each_by_itself(mixed):
    lists = [ROWS[at : at + 4] for at in range(0, 40, 4)]

    async def ask():
        async with AsyncClient(mixed.http, model="mixed") as client:
            return await asyncio.gather(*(client.infer(x=rows, outputs=["rank", "price"]) for rows in lists))

    together = asyncio.run(ask())
    with Client(mixed.http, model="mixed") as client:
        for rows, answer in zip(lists, together, strict=True):
            alone = client.infer(x=rows, outputs=["rank"])
            np.testing.assert_array_equal(answer.outputs["rank"], alone.outputs["rank"])


WANTED: list[list[str]] = [[], ["one"], ["two"]]


@pytest.fixture
def halved(open_doors, request):
    """Two outputs that share a trunk, each with two heads of its own; one waits for both of them."""
    name = f"halved{abs(hash(request.node.name)) % 10**6}"
    heads = {n: {**member("known", shift=SHIFTS[n]), "inputs": ["trunk"]} for n in ("a", "b", "late", "picky")}
    return open_doors({
        "name": name, "inputs": {"x": {"datatype": "FP32", "shape": [2]}}, "classes": MOODS,
        "members": {"trunk": {**values([0, 1]), "output": "features"}, **heads},
        "fusions": {"one": fusion("a", "b"), "two": fusion("late", "picky", deadline_s=0.7, quorum=2)},
        "outputs": ["one", "two"],
    })  # fmt: skip


def test_while_the_members_of_one_output_are_gone_the_other_answers_whole(halved):
    """Requests for all get the one that has an answer, in full; who names the other is refused, and nobody waits."""
    name = halved.engine.spec.name
    with Client(halved.http, model=name) as client:
        assert client.infer(x=ROWS).parameters["degraded"] is False
        halved.stop_members("late", "picky")
        until(lambda: "outputs_missing" in client.infer(x=ROWS).parameters)

        async def ask():
            async with AsyncClient(halved.http, model=name) as many:
                calls = [many.infer(x=ROWS[at : at + 3], outputs=wanted) for at in range(37) for wanted in WANTED]
                return await asyncio.gather(*calls, return_exceptions=True)

        answers = asyncio.run(ask())
    for at, (everything, one, two) in enumerate(zip(*[iter(answers)] * 3, strict=True)):
        right = (known(1, ROWS[at : at + 3]) + known(-2, ROWS[at : at + 3])) / 2
        for answer in (everything, one):
            assert list(answer.outputs) == ["one"]
            assert answer["one"].parameters["degraded"] is False
            assert (answer["one"].parameters["coverage"], answer["one"].parameters["members_missing"]) == (1.0, "")
            np.testing.assert_allclose(answer.outputs["one"], right, rtol=1e-5)
        assert everything.parameters["outputs_missing"].startswith("two:dead")
        assert everything.parameters["members_missing"] == ""
        assert "outputs_missing" not in one.parameters
        assert isinstance(two, QuorumError)


def test_without_a_member_that_all_outputs_read_none_of_them_answers(halved):
    with Client(halved.http, model=halved.engine.spec.name) as client:
        client.infer(x=ROWS)
        halved.stop_members("trunk")
        with pytest.raises(QuorumError, match="dead"):
            client.infer(x=ROWS)
        for output in ("one", "two"):
            with pytest.raises(QuorumError):
                client.infer(x=ROWS, outputs=[output])
