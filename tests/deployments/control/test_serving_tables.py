"""Models of tables on disk, from the file of each library to an answer over HTTP, and the same offline."""

import numpy as np
import pytest
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from quorate.deployments import Client, load_spec
from quorate.tuning import run_in_process
from tests.deployments.support.boosters import save_models
from tests.deployments.support.patients import near, patients, served

SPEC = """
name: patients
inputs:
  mean_radius: {datatype: FP64, shape: []}
  area_error: {datatype: FP64, shape: []}
  size: {datatype: BYTES, shape: []}
  points: {datatype: INT64, shape: []}
classes: [malignant, benign]
members:
  pipeline: {model: m.skops, inputs: &all [size, points, mean_radius, area_error], output: probabilities}
  xgboost: {model: m.ubj, inputs: *all, output: probabilities, classes: [benign, malignant]}
  lightgbm: {model: m.txt, inputs: *all, output: probabilities, classes: [benign, malignant]}
  catboost: {model: m.cbm, inputs: *all, output: probabilities}
fusion: {rule: mean, deadline_s: 30}
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with a spec and its models, and what each gives itself over malignant, benign."""
    folder = tmp_path_factory.mktemp("patients")
    (folder / "spec.yaml").write_text(SPEC)
    expected = {library: found for library, (_, found) in save_models(folder).items()}
    frame, labels = patients()
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    columns = make_column_transformer((numbers, ["mean radius", "area error", "points"]), (words, ["size"]))
    pipeline = make_pipeline(columns, LogisticRegression()).fit(frame, labels)
    skops.io.dump(pipeline, folder / "m.skops")
    expected["pipeline"] = pipeline.predict_proba(frame)
    return folder, {name: found[:, ::-1] for name, found in expected.items()}


FRONT = """
name: front
inputs:
  mean_radius: {{datatype: FP64, shape: []}}
  area_error: {{datatype: FP64, shape: []}}
  size: {{datatype: BYTES, shape: []}}
  points: {{datatype: INT64, shape: []}}
classes: [malignant, benign]
members:
  whole:
    model: {http}/v2/models/patients
    inputs: &all [points, size, area_error, mean_radius]
    output: probabilities
  one: {{model: "grpc:{grpc}/xgboost", inputs: *all, output: probabilities, classes: [benign, malignant]}}
fusion: {{rule: mean, members: [whole, one], deadline_s: 30}}
"""


@pytest.fixture(scope="module")
def running(models, cluster):
    from quorate.deployments.control.deploy import delete, deploy

    folder, _ = models
    yield deploy(load_spec(folder / "spec.yaml"), folder)
    delete("patients")


def test_four_libraries_answer_over_http_as_they_do_themselves(models, running):
    _, expected = models
    with Client(running.http, model="patients") as client:
        rows = served(patients()[0])
        near(client.infer(**rows).outputs["fused"], np.mean(list(expected.values()), axis=0))
        for name, own in expected.items():
            near(client.infer(**rows, members=name).outputs["fused"], own)


def test_another_ensemble_asks_them_where_they_are(models, running, tmp_path):
    from quorate.deployments.control.deploy import delete, deploy

    (tmp_path / "front.yaml").write_text(FRONT.format(http=running.http, grpc=running.grpc))
    front = deploy(load_spec(tmp_path / "front.yaml"), tmp_path)
    try:
        with Client(front.http, model="front") as client:
            answer = client.infer(**served(patients()[0]))
    finally:
        delete("front")
    _, expected = models
    whole = np.mean(list(expected.values()), axis=0)
    near(answer.outputs["fused"], (whole + expected["xgboost"]) / 2)
    assert answer.parameters["members_used"] == "one,whole"


@pytest.mark.parametrize("member", ["pipeline", "xgboost", "lightgbm", "catboost"])
def test_offline_they_answer_the_same(models, member):
    folder, expected = models
    spec = load_spec(folder / "spec.yaml")
    near(run_in_process(spec.job(member), folder, served(patients()[0])), expected[member])
