"""Which traces may stand for a bucket of a histogram."""

import grpc
import httpx

from quorate.deployments.wire import open_inference_pb2 as pb

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_traced_call_over_grpc_is_shown_too(open_doors, pair_spec):
    doors = open_doors({**pair_spec, "name": "traced"})
    request = pb.ModelInferRequest(model_name="traced")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    tensor.contents.fp32_contents.extend([1.0, 2.0])
    with grpc.insecure_channel(doors.grpc) as channel:
        path = "/inference.GRPCInferenceService/ModelInfer"
        call = channel.unary_unary(path, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
        call(request, metadata=[("traceparent", f"00-{TRACE}-{PARENT}-01")], timeout=20)
        call(request, timeout=20)
    text = httpx.get(f"{doors.http}/metrics", headers={"accept": "application/openmetrics-text"}).text
    shown = [line for line in text.splitlines() if " # {" in line]
    assert len(shown) == 1
    assert f'trace_id="{TRACE}"' in shown[0]
