"""Arrow streams: record batches in and out, in order, as they come, and never a value that was not sent."""

import itertools
import socket
import threading
import time

import httpx
import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest

from quorate.deployments import Client
from quorate.deployments.errors import NotFoundError, RequestError, UnavailableError
from tests.deployments.support.known_answers import known_answers

ROWS = np.random.default_rng(3).normal(size=(1000, 2)).astype(np.float32)
ARROW = "application/vnd.apache.arrow.stream"


def known(shift, rows=ROWS):
    return known_answers(rows, shift)


def fused(rows=ROWS):
    return 0.25 * known(1, rows) + 0.75 * known(-2, rows)


def pairs(rows):
    """(B, 2) as a column of lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 2)


def table(rows=ROWS):
    return pa.table({"x": pairs(rows)})


def numbers(answers, name="fused"):
    return np.concatenate([a.batch.column(name).flatten().to_numpy().reshape(len(a.batch), -1) for a in answers])


def stream(batches, schema=None, metadata=None, **options):
    """An Arrow stream's bytes."""
    schema = (schema or batches[0].schema).with_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for batch in batches:
            writer.write_batch(batch.replace_schema_metadata(metadata))
    return sink.getvalue().to_pybytes()


@pytest.fixture
def client(pair):
    with Client(pair.http, model="pair") as client:
        yield client


def post(client, body, model="pair", **headers):
    url, headers = f"{client._urls[0]}/v2/models/{model}/infer", {"content-type": ARROW, **headers}
    return client._http.post(url, content=body, headers=headers, timeout=30)


def post_and_collect(client, body):
    """The status and all that came of the answer, also where it ended too early, which only an error may do."""
    told = b""
    url, headers = f"{client._urls[0]}/v2/models/pair/infer", {"content-type": ARROW}
    with client._http.stream("POST", url, content=body, headers=headers, timeout=30) as reply:
        try:
            for chunk in reply.iter_raw():
                told += chunk
        except httpx.RemoteProtocolError:
            assert b'"error"' in told, told
    return reply.status_code, told


def test_a_table_comes_back_row_for_row_with_an_account_of_each_batch(client):
    answers = list(client.infer_arrow(table()))
    np.testing.assert_allclose(numbers(answers), fused(), atol=1e-6)
    assert answers[0].batch.schema.field("fused").type == pa.list_(pa.float32(), 3)
    assert answers[0].parameters["members_used"] == "a,b"
    assert answers[0].parameters["degraded"] is False


def test_members_answer_streams_too_and_parameters_count(client):
    np.testing.assert_allclose(numbers(client.infer_arrow(table(), "b"), "probabilities"), known(-2), atol=1e-6)
    answers = list(client.infer_arrow(table(), members="a", explain=True))
    np.testing.assert_allclose(numbers(answers), known(1), atol=1e-6)
    np.testing.assert_allclose(numbers(answers, "a.output"), known(1), atol=1e-6)
    assert answers[0].batch.column("a.contribution").to_pylist()[0] == 1.0


@pytest.mark.parametrize("kind", ["batch", "reader", "batches"])
def test_record_batches_come_from_whatever_holds_them(client, kind):
    data = {
        "batch": table().to_batches()[0],
        "reader": table().to_reader(max_chunksize=77),
        "batches": (batch for batch in table().to_batches(max_chunksize=101)),
    }[kind]
    np.testing.assert_allclose(numbers(client.infer_arrow(data)), fused(), atol=1e-6)


@pytest.mark.parametrize(
    "column",
    [
        pytest.param(pa.array(ROWS.tolist(), pa.list_(pa.float32())), id="list"),
        pytest.param(pa.array(ROWS.tolist(), pa.large_list(pa.float32())), id="large list"),
        pytest.param(pa.FixedShapeTensorArray.from_numpy_ndarray(ROWS), id="fixed-shape tensor"),
        pytest.param(pairs(np.vstack([ROWS[:7] * 0, ROWS]))[7:], id="a slice"),
    ],
)
def test_rows_may_be_any_kind_of_list(client, column):
    np.testing.assert_allclose(numbers(client.infer_arrow(pa.table({"x": column}))), fused(), atol=1e-6)


def test_answers_come_while_rows_still_go_out(client):
    endless = (table(ROWS[:100]).to_batches()[0] for _ in itertools.count())
    answers = list(itertools.islice(client.infer_arrow(endless), 50))
    np.testing.assert_allclose(numbers(answers[-1:]), fused(ROWS[:100])[-len(answers[-1].batch) :], atol=1e-6)


@pytest.mark.long
def test_a_client_that_reads_nothing_stops_the_server_from_reading(pair):
    """Back-pressure: what the server takes in is bounded by what goes out."""
    host, port = pair.http.removeprefix("http://").split(":")
    head = stream([], table().schema)[:-8]
    batch = stream(pa.concat_tables([table()] * 60).combine_chunks().to_batches())[len(head) : -8]
    with socket.create_connection((host, int(port))) as line:
        line.sendall(f"POST /v2/models/pair/infer HTTP/1.1\r\nhost: x\r\ncontent-type: {ARROW}\r\n".encode())
        line.sendall(b"transfer-encoding: chunked\r\n\r\n")
        line.sendall(b"%x\r\n%s\r\n" % (len(head), head))
        line.settimeout(1.5)
        chunk = b"%x\r\n%s\r\n" % (len(batch), batch)
        sent = 0
        try:
            while sent < 200 << 20:
                line.sendall(chunk)
                sent += len(chunk)
        except TimeoutError:
            pass
        assert line.recv(15) == b"HTTP/1.1 200 OK"
        assert 0 < sent < 64 << 20


def test_an_error_midway_reaches_the_client_as_its_sentence(client):
    def batches():
        yield table(ROWS[:100]).to_batches()[0]
        yield pa.record_batch({"x": pa.array([[1, 2], None], table().schema.field("x").type)})

    answers = client.infer_arrow(batches())
    assert len(next(answers).batch) > 0
    with pytest.raises(RequestError, match="'x' is null in row 1; give every row a value"):
        list(answers)


@pytest.mark.parametrize("good", [0, 3])
def test_an_endless_stream_with_an_error_ends(client, good):
    def batches():
        for _ in range(good):
            yield table(ROWS[:64]).to_batches()[0]
        while True:
            yield pa.record_batch({"x": pa.array([[1, 2], None], table().schema.field("x").type)})

    with pytest.raises(RequestError, match="'x' is null in row 1"):
        list(client.infer_arrow(batches()))


def test_a_failed_stream_ends_without_its_http_end(pair):
    """Whoever does not know about the error record still sees that something is missing."""
    nulls = pa.record_batch({"x": pa.array([None], table().schema.field("x").type)})
    body = stream([*table(ROWS[:64]).to_batches(), nulls], table().schema)
    host, port = pair.http.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as line:
        head = f"POST /v2/models/pair/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
        line.sendall(head.encode() + b"content-type: application/vnd.apache.arrow.stream\r\n\r\n" + body)
        received = b"".join(iter(lambda: line.recv(65536), b""))
    assert received.startswith(b"HTTP/1.1 200")
    assert b"is null in row 0" in received
    assert not received.endswith(b"0\r\n\r\n")


def test_what_the_users_own_rows_raise_reaches_him(client):
    def batches():
        yield table(ROWS[:100]).to_batches()[0]
        raise ZeroDivisionError("in the rows")

    with pytest.raises(ZeroDivisionError, match="in the rows"):
        list(client.infer_arrow(batches()))


def test_a_client_that_leaves_midway_costs_nobody_anything(client, pair):
    answers = client.infer_arrow(table(ROWS[:100]).to_batches()[0] for _ in itertools.count())
    next(answers)
    answers.close()
    until = time.monotonic() + 20
    while pair.engine.queued_rows and time.monotonic() < until:
        time.sleep(0.01)
    assert pair.engine.queued_rows == 0
    np.testing.assert_allclose(numbers(client.infer_arrow(table())), fused(), atol=1e-6)


def test_streams_share_batches_with_others_and_each_gets_its_own(client):
    found = {}

    def ask(number):
        rows = ROWS * np.float32(number)
        found[number] = numbers(client.infer_arrow(table(rows))) - fused(rows)

    asking = [threading.Thread(target=ask, args=(number,)) for number in range(1, 5)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert len(found) == 4
    assert all(np.abs(difference).max() < 1e-5 for difference in found.values())


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        (pa.array([[1.0, 2.0]], pa.list_(pa.float64())), "holds double; the model reads FP32: cast it to float"),
        (pa.array([[1, 2]], pa.list_(pa.int32(), 2)), "holds int32; the model reads FP32"),
        (pa.array([1.0], pa.float32()), "has shape [1]; the model reads [-1, 2]"),
        (pa.array([[1.0, 2.0, 3.0]], pa.list_(pa.float32())), "has shape [1, 3]"),
        (pa.array([[1.0, 2.0], [3.0]], pa.list_(pa.float32())), "1 elements in row 1 and 2 before"),
        (pa.array([[1.0, 2.0], None], pa.list_(pa.float32())), "null in row 1"),
        (pa.array([[1.0, 2.0], [1.0, None]], pa.list_(pa.float32())), "row 1 got no finite answer"),
        (pa.array([[1.0, 2.0]], pa.list_(pa.float32())).slice(1), "holds no rows"),
        (pa.array(["a"]).dictionary_encode(), "the model reads FP32"),
    ],
)
def test_a_column_that_does_not_fit_is_refused_with_a_sentence(client, column, sentence):
    with pytest.raises(RequestError) as error:
        list(client.infer_arrow(pa.record_batch({"x": column})))
    assert sentence in str(error.value)


def test_missing_unknown_and_double_columns_are_refused(client):
    with pytest.raises(RequestError, match="reads column 'x'; send it once"):
        list(client.infer_arrow(pa.table({})))
    with pytest.raises(RequestError, match="unexpected column 'y' for model 'pair'; it reads x"):
        list(client.infer_arrow(pa.table({"x": pairs(ROWS), "y": pairs(ROWS)})))
    double = pa.record_batch([pairs(ROWS)] * 2, names=["x", "x"])
    with pytest.raises(RequestError, match="send it once"):
        list(client.infer_arrow(double))
    with pytest.raises(NotFoundError, match="'nobody' is not found"):
        list(client.infer_arrow(table(), "nobody"))


def test_no_server_is_an_error_that_names_the_address():
    with pytest.raises(UnavailableError, match="is the ensemble deployed"):
        list(Client("http://127.0.0.1:9", model="pair").infer_arrow(table()))


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "start it with its schema"),
        (b"hello, here is no Arrow at all", "no Arrow IPC stream"),
        (stream(table().to_batches())[:-200], "cut off"),
        (stream(table().to_batches(), compression="zstd"), "compressed"),
        (stream(table().to_batches(), metadata={"parameters": "{"}), "parameters are not JSON"),
        (
            stream(table().to_batches(), metadata={"parameters": "[]"}),
            "schema's parameters are a JSON list",
        ),
        (stream(table().to_batches(), metadata={"parameters": '{"explain": 3}'}), "explain"),
        (b"\xff\xff\xff\xff\xf0\xff\xff\x7f", "bytes of metadata"),
        (b"\xff\xff\xff\xff\x10\x00\x00\x00" + b"\xff" * 16, "metadata cannot be read"),
    ],
)
def test_broken_streams_are_refused_with_a_sentence(client, body, sentence):
    reply = post(client, body)
    assert reply.status_code == 400
    assert sentence in reply.json()["error"]
    np.testing.assert_allclose(numbers(client.infer_arrow(table())), fused(), atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_mutated_streams_get_an_answer_or_a_sentence(client, seed):
    rng = np.random.default_rng(seed)
    whole = stream(table(ROWS[:20]).to_batches(max_chunksize=10), metadata={"parameters": '{"explain": true}'})
    for _ in range(100):
        body = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            body[rng.integers(len(body))] = rng.integers(256)
        status, told = post_and_collect(client, bytes(body[: rng.integers(len(body)) if rng.random() < 0.2 else None]))
        assert status == 200 or (status == 400 and b'"error"' in told), told


def test_bytes_behind_the_end_of_a_stream_end_its_answer_with_a_sentence(client):
    status, told = post_and_collect(client, stream(table().to_batches()) + b"more")
    assert status == 200
    assert b"bytes follow the end of the Arrow stream" in told


def test_other_requests_get_arrow_answers_if_they_accept_them(client):
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": ROWS[:2].ravel().tolist()}]}
    url = f"{client._urls[0]}/v2/models/pair/infer"
    reply = client._http.post(url, json=body, headers={"accept": ARROW}, timeout=30)
    assert reply.headers["content-type"] == ARROW
    with pa.ipc.open_stream(reply.content) as found:
        batch, metadata = found.read_next_batch_with_custom_metadata()
    np.testing.assert_allclose(batch.column("fused").flatten().to_numpy().reshape(2, 3), fused(ROWS[:2]), atol=1e-6)
    assert b"members_used" in metadata[b"parameters"]


def test_every_datatype_arrives_whole(every):
    rng = np.random.default_rng(5)
    from quorate.deployments.wire.arrow_tensors import write_column
    from quorate.deployments.wire.datatypes import CODES, numpy_dtype

    arrays = {}
    for datatype in CODES:
        if datatype == "BYTES":
            arrays[datatype] = np.array([[b"a", b"", "ü".encode()]] * 4, dtype=object)
        else:
            arrays[datatype] = rng.integers(0, 2, (4, 3)).astype(numpy_dtype(datatype))
    batch = pa.record_batch({name: write_column(array) for name, array in arrays.items()})
    assert batch.column("BF16").type.value_type == pa.binary(2)
    with Client(every.http, model="every") as client:
        expected = client.infer("every", arrays).outputs["fused"]
        (answer,) = client.infer_arrow(batch)
        np.testing.assert_array_equal(numbers([answer]), expected)
        arrays["BF16"] = arrays["BF16"].astype(ml_dtypes.bfloat16) + ml_dtypes.bfloat16(1)
        assert (client.infer("every", arrays).outputs["fused"] != expected).any()
