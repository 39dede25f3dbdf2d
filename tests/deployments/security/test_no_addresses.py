"""A model, weights, state or rows that are an address: nothing is ever fetched, and the error says what to do."""

import socket
import threading

import pytest

from quorate.deployments import load_model, load_spec, parse_spec
from quorate.deployments.engine.revision import build_revision
from quorate.deployments.errors import SpecError
from quorate.deployments.rows.reading import Wanted, read_inputs
from quorate.deployments.spec.files import save_spec
from quorate.fusion.errors import QuorateError
from quorate.tuning.data.tables import read_table

MODEL = "torch.nn:Identity"


@pytest.fixture
def listener():
    """The address of a server that counts who comes."""
    came = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                came.append(connection)
                connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        host, port = server.getsockname()
        yield f"{host}:{port}"
        socket.create_connection((host, port)).close()  # it does notice, and nobody came before
        while not came:
            pass
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert len(came) == 1, "an address in a spec was asked"


SCHEMES = ["http", "https", "ftp", "s3", "gs", "hdfs", "tcp", "file"]


def spec(model=MODEL, weights=None, **fusion):
    inputs = {"x": {"datatype": "FP32", "shape": [2]}}
    member = {"model": model, "weights": weights, "inputs": ["x"]}
    rest = {"fusion": {"rule": "mean", **fusion}, "classes": ["0", "1"]}
    return parse_spec({"name": "fetched", "inputs": inputs, "members": {"a": member}, **rest})


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_address_in_a_spec_is_asked(listener, tmp_path, scheme):
    url = f"{scheme}://{listener}/a"
    for field, found in (
        ("members.a.model", spec(f"{url}.pt2")),
        ("members.a.model", spec(f"{url}.onnx")),
        ("members.a.model", spec(f"{url}.pth")),
        ("members.a.weights", spec(weights=f"{url}.pth")),
        ("members.a.weights", spec(weights=f"{url}.safetensors")),
        ("fusion.state", spec(rule="stacking", state=f"{url}.safetensors")),
        ("fusion.calibration.state", spec(calibration={"state": f"{url}.safetensors"})),
        ("fusion.member_calibration.a.state", spec(member_calibration={"a": {"state": f"{url}.safetensors"}})),
    ):
        save_spec(found, tmp_path / "spec.yaml")
        with pytest.raises(SpecError, match=f"{field}: '{url}.* is an address, not a file; .* download it"):
            load_spec(tmp_path / "spec.yaml")
        with pytest.raises(QuorateError):  # a spec that was made in Python comes this far
            build_revision(found, tmp_path) if "state" in field else load_model("a", found.members["a"], tmp_path)
    for model in (f"{url}:make", url):
        with pytest.raises(SpecError, match=r"is no model; write package\.module:factory, or the path of"):
            spec(model)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_address_of_a_spec_or_of_rows_is_asked(listener, scheme):
    url = f"{scheme}://{listener}/a"
    with pytest.raises(SpecError, match=r"cannot be read .*; give the path of a spec file"):
        load_spec(f"{url}.yaml")
    for suffix in (".npy", ".npz", ".json", ".jsonl", ".csv", ".parquet", ".arrow", ".feather", ""):
        with pytest.raises(QuorateError, match="no such file"):
            read_table(f"{url}{suffix}", {"x": (2,)}, ("0", "1"))
        with pytest.raises(QuorateError, match="no such file"):
            read_inputs(f"{url}{suffix}", {"x": Wanted("FP32", (2,))})
