"""From a run into the running service: under load, verified, with a canary, and back again."""

import json
import shutil

import numpy as np
import pytest

from quorate.deployments import Client, parse_spec, save_spec
from quorate.deployments.errors import CanaryError
from quorate.tuning import Labelled, promote, tune_fusion
from quorate.tuning.errors import PromotionError
from quorate.tuning.runs.probe import load_probe, save_probe
from tests.deployments.support.traffic import Traffic


@pytest.fixture(scope="module")
def served(cluster, tiny):
    """The ensemble as it was before tuning, with small replicas."""
    from quorate.deployments.control.deploy import delete, deploy

    data = tiny.spec.model_dump(mode="json", exclude_defaults=True)
    for member in data["members"].values():
        member["resources"] = {"num_cpus": 0.1}
    data["serving"] = {"resources": {"num_cpus": 0.1}}
    spec = parse_spec({**data, "name": "promoted"})
    yield spec, deploy(spec, tiny.folder)
    delete("promoted")


@pytest.fixture(scope="module")
def run(served, tiny, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return tune_fusion(served[0], tiny.folder, tiny.splits.validation, tiny.splits.test, runs=runs)


def asked(url, image):
    with Client(url, model="promoted") as client:
        return client.infer(image=image)


def keep_probe(folder, spec, images, expected):
    rows = np.arange(len(images))
    save_probe(folder, spec, Labelled({"image": images}, rows, spec.classes), rows, expected)


def test_a_run_is_promoted_under_load_without_a_failed_request_and_rolled_back(served, run):
    from quorate.deployments.control.deploy import rollback

    _, deployed = served
    probe = load_probe(run.folder, run.spec)
    with Traffic(deployed.http, "promoted", {"image": probe.inputs["image"]}) as traffic:
        done = promote(run.folder, canary=0.3, canary_s=4.0)
    assert not traffic.failures
    assert done.previous == deployed.revision
    assert traffic.revisions() == {done.previous, done.revision}
    assert done.canary is not None
    assert (done.probe_rows, done.canary.error_rates) == (len(probe.expected), (0.0, 0.0))
    answer = asked(deployed.http, probe.inputs["image"])
    assert answer.parameters["revision"] == done.revision
    np.testing.assert_allclose(answer.outputs["fused"], probe.expected, atol=1e-5)
    with pytest.raises(PromotionError, match="is live already"):
        promote(run.folder)
    assert rollback("promoted").revision == deployed.revision
    assert asked(deployed.http, probe.inputs["image"]).parameters["revision"] == deployed.revision


def test_another_alternative_than_the_recommended_says_what_it_loses(served, run):
    from quorate.deployments.control.deploy import rollback

    _, deployed = served
    other = "log_pool" if run.choice.recommended != "log_pool" else "calibrated"
    steps: list[str] = []
    done = promote(run.folder, pick=other, anyway=run.choice.decision == "single", on_step=steps.append)
    assert done.loses in steps
    assert done.loses.startswith(f"{run.choice.recommended} is recommended; {other} is worse by +")
    probe = load_probe(run.folder, run.spec, other)
    answer = asked(deployed.http, probe.inputs["image"])
    np.testing.assert_allclose(answer.outputs["fused"], probe.expected, atol=1e-5)
    rollback("promoted")
    with pytest.raises(PromotionError, match=r"there is no spec-nobody\.yaml; picks are calibrated, "):
        promote(run.folder, pick="nobody")
    with pytest.raises(PromotionError, match="there is no spec-"):
        promote(run.folder, pick="../spec")


def test_what_the_verdict_advises_against_wants_anyway(served, run, tmp_path):
    report = json.loads((run.folder / "report.json").read_text())
    for decision, recommended, pick, fix in (
        ("nothing", "class_frequencies", "uniform", "pass anyway"),
        ("single", "strong", "stacking", "or leave pick out"),
    ):
        against = tmp_path / decision
        shutil.copytree(run.folder, against)
        changed = {**report, "decision": decision, "recommended": recommended, "verdict": "do not"}
        (against / "report.json").write_text(json.dumps(changed))
        if not (against / f"spec-{pick}.yaml").is_file():
            shutil.copy(against / "spec.yaml", against / f"spec-{pick}.yaml")
        with pytest.raises(PromotionError, match=f"the verdict is: do not; {fix}|pass anyway .*{fix}"):
            promote(against, pick=pick)


def test_a_run_whose_members_answer_otherwise_than_when_it_was_made_is_refused(served, run, tiny, tmp_path):
    _, deployed = served
    probe = load_probe(run.folder, run.spec)
    data = run.spec.model_dump(mode="json", exclude_defaults=True)
    strong = data["members"]["strong"]
    weak = tiny.spec.model_dump(mode="json", exclude_defaults=True)["members"]["weak"]
    data["members"]["strong"] = {**weak, "resources": strong["resources"]}  # somebody has changed a checkpoint
    for member in data["members"].values():
        member["weights"] = str(run.folder / member["weights"])
    changed = parse_spec(data)
    save_spec(changed, tmp_path / "spec.yaml")
    keep_probe(tmp_path, changed, probe.inputs["image"], probe.expected)
    with pytest.raises(CanaryError, match="its answers of fused differ from the run's by"):
        promote(tmp_path)
    assert asked(deployed.http, probe.inputs["image"]).parameters["revision"] == deployed.revision


def test_a_folder_that_is_no_run_and_an_ensemble_that_does_not_run_are_sentences(served, run, tmp_path):
    with pytest.raises(PromotionError, match=r"there is no spec\.yaml; give the folder that quorate tune named"):
        promote(tmp_path)
    other = run.spec.model_copy(update={"name": "nobody"})
    shutil.copytree(run.folder / "artifacts", tmp_path / "artifacts")
    save_spec(other, tmp_path / "spec.yaml")
    with pytest.raises(PromotionError, match=r"probe\.arrow: cannot be read"):
        promote(tmp_path)
    keep_probe(tmp_path, other, np.zeros((2, 1, 8, 8), np.float32), np.zeros((2, 10), np.float32))
    with pytest.raises(PromotionError, match="nobody: no ensemble of this name runs; quorate deploy it first"):
        promote(tmp_path)
