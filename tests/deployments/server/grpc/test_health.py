"""What gRPC clients ask beside inference: configuration, the index, and the standard services."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from quorate.deployments.wire import open_inference_pb2 as pb


def ask(doors, rpc, request, reply):
    with grpc.insecure_channel(doors.grpc) as channel:
        path = f"/inference.GRPCInferenceService/{rpc}"
        return channel.unary_unary(path, type(request).SerializeToString, reply.FromString)(request, timeout=20)


def test_the_standard_health_service_says_serving(pair):
    with grpc.insecure_channel(pair.grpc) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", "inference.GRPCInferenceService"):
            reply = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=20)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
            watched = stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=20)
            assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
            watched.cancel()
        with pytest.raises(grpc.RpcError) as error:
            stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=20)
        assert error.value.code() == grpc.StatusCode.NOT_FOUND


def test_the_standard_health_service_follows_the_members(open_doors):
    member = {"model": "known:known", "config": {"shift": 1}, "inputs": ["x"], "output": "probabilities"}
    inputs = {"x": {"datatype": "FP32", "shape": [2]}}
    spec = {"name": "leaving", "inputs": inputs, "classes": ["r", "g", "b"], "members": {"only": member}}
    doors = open_doors({**spec, "fusion": {"rule": "mean"}})
    with grpc.insecure_channel(doors.grpc) as channel:
        watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=30)
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        doors.stop_members()
        assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watched.cancel()


def test_reflection_lists_the_services(pair):
    with grpc.insecure_channel(pair.grpc) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        (reply,) = stub.ServerReflectionInfo(asked, timeout=20)
    names = {service.name for service in reply.list_services_response.service}
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= names


def test_config_and_index(pair):
    config = ask(pair, "ModelConfig", pb.ModelConfigRequest(name="pair"), pb.ModelConfigResponse).config
    assert [(t.name, pb.DataType.Name(t.data_type), list(t.dims)) for t in config.input] == [("x", "TYPE_FP32", [2])]
    assert list(config.output[0].dims) == [3]
    index = ask(pair, "RepositoryIndex", pb.RepositoryIndexRequest(ready=True), pb.RepositoryIndexResponse).models
    assert [(model.name, model.state) for model in index] == [("pair", "READY"), ("a", "READY"), ("b", "READY")]
