"""Every kind of model that people have: from its file to an answer over HTTP by eight lines of YAML, and no Python.

What is asked is plain JSON, and what comes back is what the model's own library says.
"""

import subprocess
import sys

import httpx
import numpy as np
import pytest

import quorate
from tests.deployments.support.models_on_disk import FLOWERS, KINDS, OnDisk
from tests.deployments.support.patients import near

LINES = 8
WITH_TORCHVISION = ("timm", "torchvision")


def written(folder, kind: str, made: OnDisk):
    """The spec's file, of as few lines as is said above."""
    path = folder / "spec.yaml"
    path.write_text(f"name: of-{kind}{made.spec}")
    assert len([line for line in path.read_text().splitlines() if line.strip()]) <= LINES
    return path


def asked(url: str, kind: str, made: OnDisk):
    """The fused values that a door answers with."""
    answer = httpx.post(f"{url}/v2/models/of-{kind}/infer", json=made.body(), timeout=120)
    assert answer.status_code == 200, answer.text
    output = answer.json()["outputs"][0]
    return np.reshape(output["data"], output["shape"])


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*parameters are frozen:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_each_kind_answers_as_its_library_does(open_doors, tmp_path, kind):
    made = KINDS[kind](tmp_path)
    loaded = quorate.load_spec(written(tmp_path, kind, made))
    doors = open_doors(loaded.model_dump(mode="json", exclude_defaults=True), folder=tmp_path)
    near(asked(doors.http, kind, made), made.expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_deployed_by_one_call_it_answers_the_same(cluster, tmp_path, kind):
    if kind in WITH_TORCHVISION and not torchvision_is_of_this_torch():
        pytest.skip("torchvision here is for another torch: members cannot import it")
    made = KINDS[kind](tmp_path)
    with quorate.deploy(written(tmp_path, kind, made)) as running:
        try:
            near(asked(running.urls[0], kind, made), made.expected)
        finally:
            running.down()


def torchvision_is_of_this_torch() -> bool:
    done = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.parametrize("address", ["{http}/v2/models/pair", "http:{place}/pair", "grpc:{grpc}/pair"])
def test_a_model_elsewhere_answers_as_it_does_there(open_doors, pair, tmp_path, address):
    place = pair.http.removeprefix("http://")
    model = address.format(http=pair.http, place=place, grpc=pair.grpc)
    rows = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    there = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [5, 2], "data": rows.tolist()}]}
    said = httpx.post(f"{pair.http}/v2/models/pair/infer", json=there).json()["outputs"][0]
    spec = FLOWERS.replace("[4]", "[2]").replace("setosa, versicolor, virginica", "red, green, blue")
    kind = f"elsewhere-{address.count('p')}-{address.count('/')}"
    made = OnDisk(
        spec.replace("MEMBER", f'model: "{model}", output: probabilities'), {"x": ("FP32", rows)},
        np.reshape(said["data"], said["shape"]),
    )  # fmt: skip
    loaded = quorate.load_spec(written(tmp_path, kind, made))
    doors = open_doors(loaded.model_dump(mode="json", exclude_defaults=True), folder=tmp_path)
    near(asked(doors.http, kind, made), made.expected)
