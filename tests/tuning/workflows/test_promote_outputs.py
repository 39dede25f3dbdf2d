"""A run of several outputs into the running service: canary, promotion by output, publishing, and back again."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer

import quorate
from quorate.deployments import Client, load_spec, parse_spec
from quorate.deployments.engine.offline_graph import OfflineGraph
from quorate.deployments.errors import CanaryError, RequestError
from quorate.tuning import promote
from quorate.tuning.errors import PromotionError
from quorate.tuning.runs.probe import load_probe
from tests.deployments.support.traffic import Traffic
from tests.tuning.workflows.test_tune_outputs import INPUTS, KINDS, MEMBERS, SIZE, TRAINED, fields

ROWS = INPUTS[TRAINED : TRAINED + 7]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("promoted-desk")
    (place / "my_desk.py").write_text(MEMBERS)
    return place


@pytest.fixture(scope="module")
def spec(folder):
    data = fields(folder, name="shared-desk", serving={"resources": {"num_cpus": 0.1}})
    data["members"]["trunk"]["config"] = {}  # a log that grows would be another revision each time
    for member in data["members"].values():
        member["resources"] = {"num_cpus": 0.1}
    return parse_spec(data)


@pytest.fixture(scope="module")
def deployed(cluster, spec, folder):
    from quorate.deployments.control.deploy import delete, deploy

    yield deploy(spec, folder)
    delete(spec.name)


@pytest.fixture(scope="module")
def run(spec, folder, tmp_path_factory):
    _, tumour = load_breast_cancer(return_X_y=True)
    table = pd.DataFrame({"x": list(INPUTS), "kind": np.array(KINDS)[tumour], "size": SIZE})[TRAINED:].reset_index()
    return quorate.tune(spec, table, label={}, folder=folder, runs=tmp_path_factory.mktemp("runs"))


def asked(deployed, rows=ROWS):
    with Client(deployed.http, model="shared-desk") as client:
        return client.infer(x=rows)


def offline(spec, folder):
    graph = OfflineGraph(spec, folder, {"x": ROWS})
    return {output: graph.node(output).aligned for output in spec.outputs}


def test_a_run_is_promoted_behind_a_canary_and_every_output_answers_as_it_did(deployed, run):
    from quorate.deployments.control.deploy import rollback

    probe = load_probe(run.folder, run.spec)
    assert list(probe.answers) == ["kind", "size"]
    with Traffic(deployed.http, "shared-desk", {"x": ROWS}) as traffic:
        done = promote(run.folder, canary=0.3, canary_s=4.0)
    assert not traffic.failures
    assert traffic.revisions() == {done.previous, done.revision}
    answer = asked(deployed, probe.inputs["x"])
    for output, expected in probe.answers.items():
        np.testing.assert_allclose(answer.outputs[output], expected, atol=1e-5)
    assert {said["revision"] for said in answer.output_parameters.values()} == {done.revision}
    assert rollback("shared-desk").revision == deployed.revision
    for output, expected in offline(load_spec(run.folder / "spec-incumbent.yaml"), run.folder).items():
        np.testing.assert_allclose(asked(deployed).outputs[output], expected, atol=1e-5)


def test_alternatives_are_picked_by_output(deployed, run):
    from quorate.deployments.control.deploy import rollback

    done = promote(run.folder, pick="kind=near, size=ridge", anyway=True)
    try:
        answer = asked(deployed)
        used = {output: answer[output].parameters["members_used"] for output in answer.outputs}
        assert used == {"kind": "near,trunk", "size": "ridge,trunk"}
        alone = {output: load_spec(run.folder / f"spec-{output}={name}.yaml") for output, name in
                 (("kind", "near"), ("size", "ridge")) if run[output].choice.recommended != name}  # fmt: skip
        for output, spec in alone.items():
            np.testing.assert_allclose(answer.outputs[output], offline(spec, run.folder)[output], atol=1e-5)
        assert done.loses.startswith("kind: ") or done.loses.startswith("size: ")
    finally:
        rollback("shared-desk")
    for pick, sentence in (
        ("stacking", r"'stacking=' is no alternative of an output; write kind=NAME; outputs are kind, size"),
        ("kind=nobody", r"'kind=nobody' is no alternative of an output; picks of kind are "),
        ("kind=class_frequencies", "is no alternative of an output"),
    ):
        with pytest.raises(PromotionError, match=sentence):
            promote(run.folder, pick=pick)
    with pytest.raises(PromotionError, match="is live already"):
        promote(run.folder, pick="incumbent")


def test_a_run_one_of_whose_outputs_answers_otherwise_is_refused(deployed, run, tmp_path):
    from quorate.tuning.runs.probe import save_output_probes

    shutil.copytree(run.folder, tmp_path / "run")
    probe = load_probe(run.folder, run.spec)
    wrong = {"kind": probe.answers["kind"], "size": probe.answers["size"] + 1}
    save_output_probes(tmp_path / "run", run.spec, probe.inputs, wrong, {})
    with pytest.raises(CanaryError, match="its answers of size differ from the run's by 1"):
        promote(tmp_path / "run")
    assert asked(deployed).parameters["revision"] == deployed.revision


def test_where_nothing_is_worth_serving_on_any_output_it_wants_anyway(deployed, run, tmp_path):
    report = json.loads((run.folder / "report.json").read_text())
    for one in report["outputs"].values():
        one["decision"] = "nothing"
    shutil.copytree(run.folder, tmp_path / "run")
    (tmp_path / "run" / "report.json").write_text(json.dumps(report))
    with pytest.raises(PromotionError, match="the verdict on each output is that nothing is worth serving"):
        promote(tmp_path / "run")


def test_the_fusions_of_some_outputs_are_published_by_their_names(deployed):
    from quorate.deployments.control.deploy import rollback

    with Client(deployed.http, model="shared-desk") as client:
        before = client.infer(x=ROWS)
        weights = {"rule": "weighted_mean", "weights": {"near": 0.2, "line": 0.8}}
        client.publish({"fusions": {"kind": weights}})
        answer = client.infer(x=ROWS, explain=True)
        said = [answer["kind"].outputs[f"{name}.output"].astype(float) for name in ("near", "line")]
        np.testing.assert_allclose(answer.outputs["kind"], 0.2 * said[0] + 0.8 * said[1], atol=1e-6)
        np.testing.assert_array_equal(answer.outputs["size"], before.outputs["size"])
        assert {one["revision"] for one in answer.output_parameters.values()} == {answer.parameters["revision"]}
        assert answer.parameters["revision"] != before.parameters["revision"]
        for fusions, sentence in (
            ({"size": {"weights": {"wide": 1.0}}}, "fusions.size.weights"),
            ({"nobody": {"rule": "mean"}}, "config's fusions are no object of fusions; there are kind, size"),
            ({"kind": {"classes": ["no", "yes"]}}, "deploy the spec"),
            ({"size": {"task": "regression"}}, "deploy the spec"),
        ):
            with pytest.raises((RequestError, quorate.QuorateError), match=sentence):
                client.publish({"fusions": fusions})
        with pytest.raises(RequestError, match="the fusions have names"):
            client.publish({"rule": "mean"})
        assert client.infer(x=ROWS).parameters["revision"] == answer.parameters["revision"]
    rollback("shared-desk")
    assert asked(deployed).parameters["revision"] == deployed.revision
