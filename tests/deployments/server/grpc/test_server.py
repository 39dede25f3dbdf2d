"""The gRPC door over real sockets, asked with messages built here; answers are NumPy's."""

import time
import zlib

import grpc
import ml_dtypes
import numpy as np
import pytest

from quorate.deployments.wire import open_inference_pb2 as pb
from tests.deployments.support.known_answers import known_answers

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(5, 2)).astype(np.float32)
NUMPY = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64, "FP16": np.float16,
    "BF16": ml_dtypes.bfloat16, "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip
FIELDS = {
    "BOOL": "bool_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


def known(shift, rows=ROWS):
    return known_answers(rows, shift)


class Ask:
    """Calls an RPC by name on the door that serves the model."""

    def __init__(self, pair, every):
        self.pair, self.every = pair, every

    def __call__(self, rpc, request, of=None, **options):
        method = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name[rpc]
        reply = getattr(pb, method.output_type.name)
        path = f"/inference.GRPCInferenceService/{rpc}"
        stub = (of or self.pair).unary_unary(path, type(request).SerializeToString, reply.FromString)
        return stub(request, timeout=options.pop("timeout", 20), **options)


@pytest.fixture(scope="module")
def ask(pair, every):
    with grpc.insecure_channel(pair.grpc) as of_pair, grpc.insecure_channel(every.grpc) as of_every:
        yield Ask(of_pair, of_every)


def infer_request(rows=ROWS, **rest):
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=rows.shape)
    return pb.ModelInferRequest(model_name="pair", inputs=[tensor], raw_input_contents=[rows.tobytes()], **rest)


def output(reply, place=0):
    return np.frombuffer(reply.raw_output_contents[place], np.float32).reshape(reply.outputs[place].shape)


def text(*values):
    return pb.InferParameter(string_param=",".join(values))


def test_a_raw_request_gets_the_weighted_mean_and_says_who_answered(ask):
    reply = ask("ModelInfer", infer_request(id="seven"))
    np.testing.assert_allclose(output(reply), 0.25 * known(1) + 0.75 * known(-2), atol=1e-6)
    assert (reply.model_name, reply.model_version, reply.id) == ("pair", "1", "seven")
    assert (reply.outputs[0].name, reply.outputs[0].datatype) == ("fused", "FP32")
    assert reply.parameters["members_used"].string_param == "a,b"
    assert reply.parameters["degraded"].WhichOneof("parameter_choice") == "bool_param"
    assert reply.parameters["coverage"].double_param == 1.0


def test_a_member_is_a_model_too(ask):
    request = infer_request()
    request.model_name = "b"
    np.testing.assert_allclose(output(ask("ModelInfer", request)), known(-2), atol=1e-6)


def test_parameters_choose_members_and_explain_them(ask):
    request = infer_request(parameters={"explain": pb.InferParameter(bool_param=True)})
    reply = ask("ModelInfer", request)
    found = {tensor.name: output(reply, place) for place, tensor in enumerate(reply.outputs)}
    np.testing.assert_allclose(found["a.output"], known(1), atol=1e-6)
    np.testing.assert_allclose(found["b.contribution"], np.full(5, 0.75), atol=1e-6)
    only_b = ask("ModelInfer", infer_request(parameters={"members": text("b")}))
    np.testing.assert_allclose(output(only_b), known(-2), atol=1e-6)


def test_a_deadline_in_the_parameters_ends_the_call(ask):
    with pytest.raises(grpc.RpcError) as error:
        ask("ModelInfer", infer_request(parameters={"deadline_ms": pb.InferParameter(double_param=0.001)}))
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def values(datatype):
    """(2, 3) of every datatype, with its extremes where sums stay exact."""
    if datatype == "BYTES":
        return np.array([[b"", b"\xff\x00", "\u00e9".encode()], [b"a", b"bc", b"d" * 300]], dtype=object)
    if datatype == "BOOL":
        return np.array([[True, False, True], [False, False, True]])
    dtype = np.dtype(NUMPY[datatype])
    numbers = [[1, 2, 3], [100, 0, 7]] if dtype.kind == "u" else [[1, -2, 3], [-100, 0, 7]]
    return np.array(numbers).astype(dtype)


def raw(array):
    if array.dtype == object:
        return b"".join(len(item).to_bytes(4, "little") + item for item in array.ravel())
    return array.tobytes()


def number(array):
    """What ``factories/every.py`` gives."""
    if array.dtype == object:
        return [zlib.crc32(b"\0".join(row)) % 2**16 for row in array]
    return (array.astype(np.float64) * [1, 2, 3]).sum(axis=1)


EXPECTED = np.stack([number(values(d)) for d in [*NUMPY, "BYTES"]], axis=1)


def every_request():
    tensors = [pb.ModelInferRequest.InferInputTensor(name=d, datatype=d, shape=[2, 3]) for d in [*NUMPY, "BYTES"]]
    return pb.ModelInferRequest(model_name="every", inputs=tensors)


def test_raw_contents_carry_every_datatype(ask):
    request = every_request()
    request.raw_input_contents.extend(raw(values(t.datatype)) for t in request.inputs)
    np.testing.assert_array_equal(output(ask("ModelInfer", request, of=ask.every)), EXPECTED)


def test_typed_contents_carry_every_datatype_that_has_a_field(every, open_doors):
    typed = [d for d in [*NUMPY, "BYTES"] if d in FIELDS]
    member = {"model": "every:sums", "inputs": typed, "output": "values"}
    inputs = {d: {"datatype": d, "shape": [3]} for d in typed}
    doors = open_doors({"name": "typed", "inputs": inputs, "members": {"m": member}, "fusion": {"rule": "mean"}})
    request = pb.ModelInferRequest(model_name="typed")
    for d in typed:
        contents = pb.InferTensorContents(**{FIELDS[d]: values(d).ravel().tolist()})
        request.inputs.add(name=d, datatype=d, shape=[2, 3], contents=contents)
    with grpc.insecure_channel(doors.grpc) as channel:
        stub = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelInferResponse.FromString,
        )
        found = output(stub(request, timeout=20))
    np.testing.assert_array_equal(found, np.stack([number(values(d)) for d in typed], axis=1))


def test_health_and_metadata(ask):
    assert ask("ServerLive", pb.ServerLiveRequest()).live
    assert ask("ServerReady", pb.ServerReadyRequest()).ready
    assert ask("ModelReady", pb.ModelReadyRequest(name="pair")).ready
    assert ask("ModelReady", pb.ModelReadyRequest(name="a", version="1")).ready
    assert not ask("ModelReady", pb.ModelReadyRequest(name="nobody")).ready
    assert not ask("ModelReady", pb.ModelReadyRequest(name="pair", version="7")).ready
    assert ask("ServerMetadata", pb.ServerMetadataRequest()).name == "quorate"
    metadata = ask("ModelMetadata", pb.ModelMetadataRequest(name="pair"))
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [("x", "FP32", [-1, 2])]
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.outputs] == [("fused", "FP32", [-1, 3])]


def broken(**changes):
    """A good request with one thing wrong."""
    request = infer_request()
    for field in changes.get("clear", ()):
        request.ClearField(field)
    changes.get("edit", lambda _: None)(request)
    return request


def add_input(name, datatype="FP32", shape=(5, 2)):
    return lambda r: r.inputs.add(name=name, datatype=datatype, shape=shape)


def edit_input(**fields):
    def edit(request):
        for field, value in fields.items():
            if field == "shape":
                del request.inputs[0].shape[:]
                request.inputs[0].shape.extend(value)
            elif field == "contents":
                request.inputs[0].contents.CopyFrom(pb.InferTensorContents(**value))
            else:
                setattr(request.inputs[0], field, value)

    return edit


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (broken(edit=edit_input(contents={"fp32_contents": [1.0]})), "contents as well as raw_input_contents"),
        (broken(edit=edit_input(shape=[5, 3])), "needs 60 bytes but has 40"),
        (broken(edit=edit_input(shape=[2**4, 2**60 + 2])), "too large"),
        (broken(edit=edit_input(shape=[-1, 2])), "cannot be negative"),
        (broken(edit=edit_input(shape=[1] * 99)), "at most 32"),
        (broken(edit=edit_input(datatype="FP64", shape=[5, 1])), "the model reads FP32"),
        (broken(edit=edit_input(datatype="FLOAT")), "use one of BOOL"),
        (broken(edit=edit_input(name="y")), "unexpected inference input 'y'"),
        (broken(edit=add_input("x")), "expected 2 raw_input_contents but got 1"),
        (broken(clear=["inputs"]), "expected 0 raw_input_contents but got 1"),
        (broken(clear=["inputs", "raw_input_contents"]), "'x' is missing"),
        (broken(clear=["raw_input_contents"]), "has 0 elements but shape [5, 2] needs 10"),
        (
            broken(clear=["raw_input_contents"], edit=edit_input(contents={"fp64_contents": [0.0] * 10})),
            "is FP32 but has fp64_contents",
        ),
        (
            broken(
                clear=["raw_input_contents"], edit=edit_input(datatype="INT8", contents={"int_contents": [128] * 10})
            ),
            "outside INT8",
        ),
        (broken(clear=["raw_input_contents"], edit=edit_input(datatype="FP16")), "no typed contents"),
        (broken(edit=lambda r: r.outputs.add(name="nothing")), "unexpected inference output 'nothing'"),
        (broken(edit=lambda r: r.parameters["deadline_ms"].CopyFrom(text("soon"))), "deadline_ms"),
        (broken(edit=lambda r: r.parameters["explain"].CopyFrom(pb.InferParameter())), "has no value"),
    ],
)
def test_a_wrong_request_is_an_invalid_argument_with_a_sentence_and_the_next_works(ask, request_, sentence):
    with pytest.raises(grpc.RpcError) as error:
        ask("ModelInfer", request_)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert sentence in error.value.details()
    assert ask("ModelInfer", infer_request()).outputs


def test_an_unknown_model_is_not_found(ask):
    request = infer_request()
    request.model_name = "nobody"
    for rpc, message in (("ModelInfer", request), ("ModelMetadata", pb.ModelMetadataRequest(name="nobody"))):
        with pytest.raises(grpc.RpcError) as error:
            ask(rpc, message)
        assert error.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_length_prefix_past_the_end_is_an_invalid_argument(ask):
    request = every_request()
    contents = [raw(values(t.datatype)) for t in request.inputs]
    contents[-1] = b"\xff\xff\xff\xff" + contents[-1]
    request.raw_input_contents.extend(contents)
    with pytest.raises(grpc.RpcError) as error:
        ask("ModelInfer", request, of=ask.every)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "past the end" in error.value.details()


def test_messages_above_grpcs_own_limit_of_4_mb_pass(ask):
    rows = RNG.normal(size=(4096, 2)).astype(np.float32)
    request = infer_request(rows)
    request.parameters["note"].string_param = "x" * (5 << 20)
    assert output(ask("ModelInfer", request)).shape == (4096, 3)


def test_gzipped_calls_are_understood(ask):
    reply = ask("ModelInfer", infer_request(), compression=grpc.Compression.Gzip)
    np.testing.assert_allclose(output(reply), 0.25 * known(1) + 0.75 * known(-2), atol=1e-6)


@pytest.fixture(scope="module")
def stuck(open_doors, tmp_path_factory):
    """A member that sleeps as many seconds as its switch says."""
    switch = tmp_path_factory.mktemp("switch") / "seconds"
    switch.write_text("0")
    member = {"model": "known:slow", "config": {"shift": 0, "switch": str(switch)}, "inputs": ["x"]}
    inputs = {"x": {"datatype": "FP32", "shape": [2]}}
    fusion = {"rule": "mean", "deadline_s": 5.0}
    spec = {"name": "pair", "inputs": inputs, "members": {"slow": {**member, "output": "values"}}, "fusion": fusion}
    doors = open_doors(spec)
    with grpc.insecure_channel(doors.grpc) as channel:
        yield doors, channel, switch


def errors(doors, reason):
    """How many requests the ensemble has counted that ended without an answer for this reason."""
    lines = doors.engine.metrics.text().decode().splitlines()
    found = [line for line in lines if f'reason="{reason}"' in line and 'outcome="error"' in line]
    return sum(float(line.split()[-1]) for line in found if "_created" not in line)


@pytest.mark.parametrize("way", ["the client cancels", "the client's deadline passes"])
def test_a_client_that_goes_away_frees_its_place(stuck, ask, way):
    doors, channel, switch = stuck
    before = errors(doors, "cancelled") + errors(doors, "deadline")
    switch.write_text("1")
    path = "/inference.GRPCInferenceService/ModelInfer"
    stub = channel.unary_unary(path, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
    call = stub.future(infer_request(), timeout=20 if way == "the client cancels" else 0.3)
    if way == "the client cancels":
        time.sleep(0.2)
        call.cancel()
    else:
        with pytest.raises(grpc.RpcError) as error:
            call.result()
        assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    until = time.monotonic() + 5
    while errors(doors, "cancelled") + errors(doors, "deadline") == before:
        assert time.monotonic() < until, "the engine never heard of it"
        time.sleep(0.02)
    switch.write_text("0")
    assert stub(infer_request(), timeout=10).outputs


def test_a_clients_own_deadline_gets_it_the_answer_of_those_in_time(open_doors, tmp_path):
    (tmp_path / "seconds").write_text("0")
    members = {"fast": {"model": "known:known", "config": {"shift": 1}, "inputs": ["x"], "output": "probabilities"}}
    members["slow"] = {**members["fast"], "model": "known:slow"}
    members["slow"]["config"] = {"shift": 0, "switch": str(tmp_path / "seconds")}
    inputs, fusion = {"x": {"datatype": "FP32", "shape": [2]}}, {"rule": "mean", "deadline_s": 20.0}
    doors = open_doors(
        {"name": "pair", "inputs": inputs, "classes": ["r", "g", "b"], "members": members, "fusion": fusion}
    )
    (tmp_path / "seconds").write_text("3")
    with grpc.insecure_channel(doors.grpc) as channel:
        path = "/inference.GRPCInferenceService/ModelInfer"
        stub = channel.unary_unary(path, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
        reply = stub(infer_request(), timeout=1.0)
    (tmp_path / "seconds").write_text("0")
    assert reply.parameters["members_missing"].string_param == "slow:deadline"
    np.testing.assert_allclose(output(reply), known(1), atol=1e-6)


@pytest.fixture(scope="module")
def stream(pair):
    with grpc.insecure_channel(pair.grpc) as channel:
        yield channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelStreamInferResponse.FromString,
        )


def test_a_stream_answers_hundreds_of_requests_in_their_order(stream):
    rows = RNG.normal(size=(300, 1, 2)).astype(np.float32)
    requests = (infer_request(row, id=str(number)) for number, row in enumerate(rows))
    replies = list(stream(requests, timeout=30))
    assert [reply.infer_response.id for reply in replies] == [str(number) for number in range(300)]
    assert all(reply.infer_response.parameters["triton_final_response"].bool_param for reply in replies)
    found = np.concatenate([output(reply.infer_response) for reply in replies])
    expected = 0.25 * known(1, rows[:, 0]) + 0.75 * known(-2, rows[:, 0])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_error_in_a_stream_ends_only_its_own_request(stream):
    replies = list(stream(iter([infer_request(), broken(edit=edit_input(name="y")), infer_request()]), timeout=20))
    assert [bool(reply.error_message) for reply in replies] == [False, True, False]
    assert "unexpected inference input 'y'" in replies[1].error_message


def test_bytes_that_are_no_request_end_their_stream_and_no_other(pair, stream):
    with grpc.insecure_channel(pair.grpc) as channel:
        path = "/inference.GRPCInferenceService/ModelStreamInfer"
        stub = channel.stream_stream(path, lambda message: message, pb.ModelStreamInferResponse.FromString)
        with pytest.raises(grpc.RpcError) as error:
            list(stub(iter([infer_request().SerializeToString(), b"\xff\xff"]), timeout=10))
    assert error.value.code() != grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(list(stream(iter([infer_request()]), timeout=20))) == 1


def test_a_stream_that_its_client_cancels_frees_its_places(stuck):
    doors, channel, switch = stuck
    before = errors(doors, "cancelled")
    switch.write_text("1")
    path = "/inference.GRPCInferenceService/ModelStreamInfer"
    stub = channel.stream_stream(path, pb.ModelInferRequest.SerializeToString, pb.ModelStreamInferResponse.FromString)
    call = stub(iter([infer_request(), infer_request(), infer_request()]), timeout=20)
    time.sleep(0.3)
    call.cancel()
    until = time.monotonic() + 5
    while errors(doors, "cancelled") < before + 3:
        assert time.monotonic() < until, "the engine never heard of it"
        time.sleep(0.02)
    switch.write_text("0")


def test_statistics_count_what_was_asked(ask):
    def stats():
        return ask("ModelStatistics", pb.ModelStatisticsRequest(name="a")).model_stats[0]

    before, request = stats(), infer_request()
    request.model_name = "a"
    ask("ModelInfer", request)
    request.inputs[0].name = "y"
    with pytest.raises(grpc.RpcError):
        ask("ModelInfer", request)
    after = stats()
    assert after.inference_count - before.inference_count == 5
    assert after.execution_count - before.execution_count == 1
    assert after.inference_stats.success.count - before.inference_stats.success.count == 1
    assert after.inference_stats.fail.count - before.inference_stats.fail.count == 1
    assert abs(after.last_inference / 1000 - time.time()) < 60
