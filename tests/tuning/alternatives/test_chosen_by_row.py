"""Members that are right on different parts of the input, and as sure on the others, are chosen by it: from labelled
rows to served answers.
"""

import numpy as np
import pytest

from quorate.deployments import load_spec, parse_spec
from quorate.deployments.server.in_process import InProcess
from quorate.tuning import Labelled, tune_fusion

pytestmark = pytest.mark.long

BY_ROW = ("gate", "knora_union", "knora_eliminate", "meta_des")
MODEL = """
import numpy as np
def make(side):
    def predict(x):
        said = np.where(((x[:, 0] > 0) == (side > 0))[:, None], x[:, 1:2], x[:, 2:3])[:, 0] > 0
        return np.stack([np.where(said, 0.1, 0.9), np.where(said, 0.9, 0.1)], axis=1).astype("f4")
    return predict
"""


def rows(count, seed):
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 4)).astype(np.float32)
    labels = np.where(random.random(count) < 0.95, x[:, 1] > 0, x[:, 1] <= 0).astype(np.int64)
    return Labelled({"x": x}, labels, ("no", "yes"))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sides")
    (folder / "my_sides.py").write_text(MODEL)
    members = {
        name: {"model": "my_sides:make", "config": {"side": side}, "inputs": ["x"], "output": "probabilities"}
        for name, side in (("left", -1), ("right", 1))
    }
    spec = parse_spec(
        {
            "name": "sides",
            "inputs": {"x": {"datatype": "FP32", "shape": [4]}},
            "classes": ["no", "yes"],
            "members": members,
            "fusion": {"rule": "mean"},
        }
    )
    return tune_fusion(spec, folder, rows(500, 0), rows(400, 1), runs=folder / "runs", refit=False)


def test_a_gate_that_reads_the_request_beats_every_fusion_that_does_not(tuned):
    found = tuned.choice.alternatives
    assert set(BY_ROW) <= set(found)
    assert found["gate"].value < min(found[name].value for name in ("uniform", "tuned", "log_pool")) - 0.03
    assert found["gate"].value < found["left"].value - 0.05
    assert tuned.choice.decision == "ensemble"


@pytest.mark.parametrize("name", BY_ROW)
def test_each_is_served_as_the_run_says_and_can_be_tuned_again(tuned, name):
    file = "spec.yaml" if tuned.choice.recommended == name else f"spec-{name}.yaml"
    spec, judged = load_spec(tuned.folder / file), rows(400, 1)
    assert spec.output_fusion.options["input_name"] == "x"
    with InProcess(spec, tuned.folder) as ensemble:
        fused = ensemble.infer("sides", {"x": judged.inputs["x"]}, {}).outputs["fused"].astype(float)
    losses = -np.log(fused[np.arange(400), judged.labels])
    assert losses.mean() == pytest.approx(tuned.choice.alternatives[name].value, abs=1e-4)


def test_a_spec_that_has_a_gate_is_an_alternative_as_it_is(tuned, tmp_path):
    file = "spec.yaml" if tuned.choice.recommended == "gate" else "spec-gate.yaml"
    again = tune_fusion(load_spec(tuned.folder / file), tuned.folder, rows(100, 0), rows(400, 1), runs=tmp_path)
    assert again.choice.alternatives["incumbent"].value == pytest.approx(
        tuned.choice.alternatives["gate"].value, abs=1e-6
    )
    assert "gate" not in again.choice.alternatives  # of a hundred rows there is none to be fitted
