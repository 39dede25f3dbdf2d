"""A spec with digests in it names what is in its files."""

import hashlib

from quorate.deployments import parse_spec
from quorate.deployments.spec.digests import file_digest, pin


def spec(**member):
    return parse_spec(
        {
            "name": "pinned",
            "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
            "members": {"a": {"inputs": ["x"], "output": "values", **member}},
            "fusion": {"rule": "mean"},
        }
    )


def test_other_bytes_in_a_file_are_another_revision(tmp_path):
    revisions = []
    for data in (b"first", b"second"):
        (tmp_path / "m.onnx").write_bytes(data)
        pinned = pin(spec(model="m.onnx"), tmp_path)
        assert pinned.members["a"].digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
        revisions.append(pinned.revision)
    assert len(set(revisions)) == 2


def test_the_digest_of_a_factory_is_that_of_its_weights(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"trained")
    pinned = pin(spec(model="torch.nn:Identity", weights="w.safetensors"), tmp_path)
    assert pinned.members["a"].digest == file_digest(tmp_path / "w.safetensors")


def test_what_has_no_file_stays_as_it_is(tmp_path):
    for given in (spec(model="torch.nn:Identity"), spec(model="absent.pt2")):
        assert pin(given, tmp_path) == given
