"""Stock gRPC clients with several doors: calls go on at another when one goes, is not ready, or comes back."""

import contextlib
import time

import grpc
import pytest

from quorate import grpc_target
from quorate.deployments.errors import RequestError
from quorate.deployments.wire import open_inference_pb2 as pb


@pytest.fixture(scope="module")
def second(open_doors, pair_spec):
    return open_doors(pair_spec)


def asker(channel):
    infer = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=pb.ModelInferRequest.SerializeToString,
        response_deserializer=pb.ModelInferResponse.FromString,
    )
    request = pb.ModelInferRequest(model_name="pair")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    tensor.contents.fp32_contents.extend([0.5, 1.0])
    return lambda: infer(request, timeout=30, wait_for_ready=True)


def requests_of(doors):
    """How many inferences a door has counted since it opened, answered or failed."""
    with grpc.insecure_channel(doors.grpc) as channel:
        statistics = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelStatistics",
            request_serializer=pb.ModelStatisticsRequest.SerializeToString,
            response_deserializer=pb.ModelStatisticsResponse.FromString,
        )
        (found,) = statistics(pb.ModelStatisticsRequest(name="pair"), timeout=30, wait_for_ready=True).model_stats
        return found.inference_stats.success.count + found.inference_stats.fail.count


def ask_until(ask, is_so):
    ends = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < ends
        ask()


@pytest.mark.long
def test_calls_take_turns_and_none_is_lost_while_a_door_is_away_and_comes_back(pair, second):
    with grpc.insecure_channel(*grpc_target([pair.grpc, second.grpc])) as channel:
        ask = asker(channel)
        ask_until(ask, lambda: requests_of(second))
        second.server.stop()
        before = requests_of(pair)
        try:
            for _ in range(20):
                ask()
        finally:
            second.restart()
        assert requests_of(pair) == before + 20
        ask_until(ask, lambda: requests_of(second))


@pytest.mark.long
def test_a_door_whose_members_are_gone_is_not_asked(open_doors, pair_spec, pair):
    empty = open_doors(pair_spec)
    with grpc.insecure_channel(*grpc_target(f"{pair.grpc}, {empty.grpc}")) as channel:
        ask = asker(channel)
        ask_until(ask, lambda: requests_of(empty))
        empty.stop_members()

        def left_alone():
            before = requests_of(empty)
            for _ in range(20):
                with contextlib.suppress(grpc.RpcError):  # until its health is known
                    ask()
            return requests_of(empty) == before

        ask_until(lambda: None, left_alone)
        before = requests_of(pair)
        ask()
        assert requests_of(pair) == before + 1


def test_a_name_stands_for_all_its_addresses_and_several_must_be_addresses():
    assert grpc_target("doors.example:8001").target == "dns:///doors.example:8001"
    assert grpc_target(["10.0.0.1:1", "10.0.0.2:1"]).target == "ipv4:10.0.0.1:1,10.0.0.2:1"
    assert grpc_target("[::1]:1").target == "ipv6:[::1]:1"
    wrongs: list[str | list[str]] = ["a:1,b:1", "10.0.0.1:1,[::1]:1", [], "10.0.0.1", "http://10.0.0.1:1"]
    for wrong in wrongs:
        with pytest.raises(RequestError, match="give "):
            grpc_target(wrong)
