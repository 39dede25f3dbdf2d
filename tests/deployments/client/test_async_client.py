"""Both clients make the same calls; one of them awaits."""

import asyncio

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from quorate import AsyncClient, Client
from quorate.deployments import errors

ROWS = np.array([[0.5, 1.0], [2.0, -1.0]], np.float32)


def asked(url, kind, calls, **options):
    """What ``calls`` of a client of this kind give, in their order."""
    if kind is Client:
        with Client(url, **options) as client:
            return [call(client) for call in calls]

    async def on_a_loop():
        async with AsyncClient(url, **options) as client:
            return [await call(client) for call in calls]

    return asyncio.run(on_a_loop())


both = pytest.mark.parametrize("kind", [Client, AsyncClient])


@both
def test_lists_series_frames_and_tensors_give_the_arrays_answer(pair, kind):
    import torch

    answers = asked(
        pair.http,
        kind,
        [
            lambda client: client.infer(x=ROWS),
            lambda client: client.infer(x=ROWS.tolist(), members="a,b", deadline_ms=4000),
            lambda client: client.infer(x=torch.tensor(ROWS)),
            lambda client: client.infer({"x": pd.DataFrame(ROWS)}),
            lambda client: client.infer("pair", {"x": ROWS.tolist()}),
        ],
        model="pair",
    )
    for answer in answers:
        np.testing.assert_array_equal(answer.outputs["fused"], answers[0].outputs["fused"])


@both
def test_a_string_is_an_input_where_the_model_has_one_of_that_name(open_doors, kind):
    members = {"length": {"model": "known:length", "inputs": ["text"], "output": "values"}}
    inputs = {"text": {"datatype": "BYTES", "shape": []}}
    doors = open_doors({"name": "lengths", "inputs": inputs, "members": members, "fusion": {"rule": "mean"}})
    one, frame = asked(
        doors.http,
        kind,
        [
            lambda client: client.infer(text="hello", members="length"),
            lambda client: client.infer(pd.DataFrame({"text": ["good", "excellent"]})),
        ],
        model="lengths",
    )
    assert one.outputs["fused"].ravel().tolist() == [5]
    assert frame.outputs["fused"].ravel().tolist() == [4, 9]


@both
def test_metadata_are_asked_for_once_and_only_where_they_decide(pair, kind):
    async def none(client):
        return client._described

    def known(client):
        return client._described if kind is Client else none(client)

    calls = [lambda client: client.infer(x=ROWS, explain=True), known, lambda client: client.infer(x=[1.0, 2.0]), known]
    _, before, _, after = asked(pair.http, kind, calls, model="pair")
    assert before is after
    assert list(after) == ["pair"]


@both
@pytest.mark.parametrize(
    ("named", "error", "sentence"),
    [
        ({"y": [1.0, 2.0]}, errors.RequestError, "'y' is no input of the model, which reads x"),
        ({"x": [["a", "b"]]}, errors.RequestError, "the model reads FP32"),
        ({"x": ROWS, "members": "nobody"}, errors.RemoteRequestError, "nobody"),
    ],
)
def test_what_does_not_fit_is_an_error_with_its_sentence(pair, kind, named, error, sentence):
    with pytest.raises(error, match=sentence):
        asked(pair.http, kind, [lambda client: client.infer(**named)], model="pair")


@both
def test_no_server_is_unavailable(kind):
    with pytest.raises(errors.UnavailableError, match=r"is the ensemble deployed\?"):
        asked("http://127.0.0.1:9", kind, [lambda client: client.metadata("m")])


def test_answers_of_an_arrow_stream_come_in_order_on_a_loop(pair):
    table = pa.table({"x": pa.FixedShapeTensorArray.from_numpy_ndarray(np.repeat(ROWS, 4000, axis=0))})

    async def stream():
        async with AsyncClient(pair.http, model="pair") as client:
            return [answer.batch async for answer in client.infer_arrow(table)]

    fused = pa.Table.from_batches(asyncio.run(stream())).column("fused").combine_chunks().flatten().to_numpy()
    with Client(pair.http, model="pair") as client:
        expected = client.infer(x=table.column("x").combine_chunks().to_numpy_ndarray()).outputs["fused"]
    np.testing.assert_array_equal(fused.reshape(-1, 3), expected)


def test_record_batches_that_differ_are_the_callers_mistake_not_the_servers(pair):
    batches = [pa.RecordBatch.from_pydict({"x": [[0.0, 1.0]]}), pa.RecordBatch.from_pydict({"x": ["word"]})]
    with Client(pair.http, model="pair") as client, pytest.raises(errors.RequestError, match="record batches differ"):
        list(client.infer_arrow(batches))


def test_an_overloaded_server_is_asked_again_on_a_loop_too(busy):
    handler, url = busy
    handler.refusals, handler.retry_after = 2, "0"
    assert asked(url, AsyncClient, [lambda client: client.metadata()], model="busy", retries=2) == [{"name": "busy"}]
    assert handler.asked == 3


def test_clients_and_answers_show_themselves(pair):
    with Client(pair.http, model="pair") as client:
        assert repr(client) == f"Client('{pair.http}', model='pair')"
        answer = client.infer(x=ROWS)
    assert "revision: " in repr(answer)
    assert answer._repr_html_().startswith("<table><tr><th>row</th><th>fused</th>")
