"""Several outputs tuned together: a class and a value of real rows, each judged as it would be alone."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import log_loss, root_mean_squared_error
from typer.testing import CliRunner

import quorate
from quorate.cluster.cli.main import app
from quorate.deployments import load_spec, parse_spec, save_spec
from quorate.deployments.engine.offline_graph import OfflineGraph
from quorate.deployments.errors import SpecError
from quorate.tuning import LabelledOutputs
from quorate.tuning.errors import DataError, TuningError

pytestmark = pytest.mark.long

ROWS, TUMOUR = load_breast_cancer(return_X_y=True)
INPUTS = ((ROWS - ROWS.mean(axis=0)) / ROWS.std(axis=0)).astype(np.float32)[:, :20]
SIZE = ROWS[:, 23] / 100  # worst area, which is not among the inputs
KINDS = ["malignant", "benign"]
TRAINED = 200
MEMBERS = """
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

ROWS, TUMOUR = load_breast_cancer(return_X_y=True)
INPUTS = ((ROWS - ROWS.mean(axis=0)) / ROWS.std(axis=0)).astype(np.float32)[:200, :20]
SIZE = ROWS[:200, 23] / 100


def trunk(log=None):
    def run(x):
        if log is not None:
            with open(log, "a") as file:
                file.write("x" * len(x))
        return x
    return run


def kind(near, start):
    model = KNeighborsClassifier(near) if near else LogisticRegression(C=0.1)
    model.fit(INPUTS[:, start:], TUMOUR[:200])
    return lambda read: (model.predict_proba(read[:, start:]).astype(np.float32) + 0.01) / 1.02


def size(near):
    model = (KNeighborsRegressor(near) if near else Ridge(1.0)).fit(INPUTS, SIZE)
    return lambda read: model.predict(read).astype(np.float32)[:, None]
"""


def fields(folder, **more):
    def member(model, output, **config):
        return {"model": f"my_desk:{model}", "config": config, "inputs": ["trunk"], "output": output}

    return {
        "name": "desk",
        "inputs": {"x": {"datatype": "FP32", "shape": [20]}},
        "members": {
            "trunk": {
                "model": "my_desk:trunk", "config": {"log": str(folder / "trunk.log")}, "inputs": ["x"],
                "output": "features",
            },
            "near": member("kind", "probabilities", near=9, start=0),
            "line": member("kind", "probabilities", near=0, start=10),
            "wide": member("size", "values", near=25),
            "ridge": member("size", "values", near=0),
        },
        "fusions": {
            "kind": {"rule": "mean", "members": ["near", "line"], "classes": KINDS, "deadline_s": 2.0},
            "size": {"rule": "mean", "members": ["wide", "ridge"]},
        },
        "outputs": ["kind", "size"],
        **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("desk")
    (place / "my_desk.py").write_text(MEMBERS)
    (place / "trunk.log").touch()
    return place


@pytest.fixture(scope="module")
def table():
    return pd.DataFrame({"x": list(INPUTS), "kind": np.array(KINDS)[TUMOUR], "Area": SIZE})[TRAINED:].reset_index()


@pytest.fixture(scope="module")
def tuned(folder, table, tmp_path_factory):
    return quorate.tune(
        parse_spec(fields(folder)), table, label={"size": "Area"}, folder=folder, runs=tmp_path_factory.mktemp("runs")
    )


def alone(folder, output):
    """A spec of this output, written by hand."""
    found = fields(folder)
    fusion = found["fusions"][output]
    classes = fusion.pop("classes", None)
    used = {*fusion["members"], "trunk"}
    members = {name: member for name, member in found["members"].items() if name in used}
    return parse_spec({**found, "members": members, "fusions": {output: fusion}, "outputs": [], "classes": classes})


@pytest.mark.parametrize(("output", "label"), [("kind", "kind"), ("size", "Area")])
def test_the_verdict_on_an_output_is_the_one_that_tuning_it_alone_gives(folder, table, tuned, tmp_path, output, label):
    by_itself = quorate.tune(alone(folder, output), table, label=label, folder=folder, runs=tmp_path)
    together, one = tuned[output].to_dict(), by_itself.to_dict()
    assert together.keys() == one.keys()
    assert (together["verdict"], together["recommended"]) == (one["verdict"], one["recommended"])
    assert json.dumps(together["alternatives"]) == json.dumps(one["alternatives"])
    assert (together["weights"], together["gap"]) == (one["weights"], one["gap"])


def served(folder, spec, rows):
    """What each output of the spec answers, by the code that serves it."""
    graph = OfflineGraph(spec, folder, {"x": rows})
    return {output: graph.node(output).aligned for output in spec.outputs}


def test_every_spec_of_the_run_serves_what_the_report_says_of_its_alternative(folder, table, tuned, tmp_path):
    refitted = {output: one.choice.refitted for output, one in tuned.outputs.items()}
    assert all("tuned" in names for names in refitted.values())
    tuned = quorate.tune(
        parse_spec(fields(folder)), table, label={"size": "Area"}, folder=folder, runs=tmp_path, refit=False
    )
    recommended = {name: one.choice.recommended for name, one in tuned.outputs.items()}
    held_out = {name: halves_of(name) for name in recommended}
    checked = 0
    for output, one in tuned.outputs.items():
        for name in one.choice.recipes:
            file = "spec.yaml" if name == recommended[output] else f"spec-{output}={name}.yaml"
            spec = load_spec(tuned.folder / file)
            rows, truth = held_out[output]
            said = served(tuned.folder, spec, rows)
            if output == "kind":
                exact = said["kind"].astype(float)
                found = log_loss(truth, exact / exact.sum(axis=1, keepdims=True))
            else:
                found = root_mean_squared_error(truth, said["size"][:, 0])
            assert found == pytest.approx(one.choice.alternatives[name].value, abs=1e-5)
            other = "size" if output == "kind" else "kind"
            assert spec.fusions[other] == tuned.spec.fusions[other]
            checked += 1
    assert checked > 8
    assert load_spec(tuned.folder / "spec.yaml") == tuned.spec
    assert load_spec(tuned.folder / "spec-incumbent.yaml").fusions == parse_spec(fields(tuned.folder)).fusions


def halves_of(output):
    """The rows that an output is judged on: those that tuning it alone would be."""
    from quorate.tuning.data.halves import halves

    truth = (TUMOUR if output == "kind" else SIZE)[TRAINED:]
    _, judged = halves(truth, seed=0)
    return INPUTS[TRAINED:][judged], truth[judged]


def test_what_both_outputs_read_runs_once_over_the_rows(folder, tmp_path, table):
    before = len((folder / "trunk.log").read_text())
    quorate.tune(parse_spec(fields(folder)), table, label={"size": "Area"}, folder=folder, runs=tmp_path)
    assert len((folder / "trunk.log").read_text()) - before == len(table)


def test_the_report_has_the_outputs_by_name_and_a_page_each(tuned):
    report = json.loads((tuned.folder / "report.json").read_text())
    assert report == json.loads(json.dumps(tuned.to_dict()))
    assert list(report["outputs"]) == ["kind", "size"]
    assert report["outputs"]["kind"]["metric"] == "log_loss"
    assert report["outputs"]["size"]["metric"] == "rmse"
    assert report["outputs"]["size"]["filled"]["rows"]["computed"].keys() == {"wide", "ridge"}
    page = (tuned.folder / "report.html").read_text()
    assert "kind: alternatives" in page
    assert all((tuned.folder / "outputs" / name / "report.html").is_file() for name in report["outputs"])
    titles = [table.title for table in tuned.tables()]
    assert titles == ["kind", "size", ""]


def test_a_row_without_a_label_of_one_output_counts_for_the_other(folder, table, tmp_path):
    some = table.copy()
    some.loc[::3, "kind"] = None
    some.to_csv(tmp_path / "some.csv", index=False, columns=["kind", "Area"])
    arrays = {f"x{place}": INPUTS[TRAINED:, place] for place in range(20)}
    pd.read_csv(tmp_path / "some.csv").assign(**arrays).to_csv(tmp_path / "some.csv", index=False)
    columns = {"x": [f"x{place}" for place in range(20)]}
    spec = parse_spec(fields(folder))
    found = quorate.tune(
        spec, tmp_path / "some.csv", label={"size": "Area"}, folder=folder, columns=columns, runs=tmp_path
    )
    labelled = np.setdiff1d(np.arange(len(table)), np.arange(0, len(table), 3))
    one = quorate.tune(alone(folder, "kind"), table.loc[labelled], label="kind", folder=folder, runs=tmp_path)
    assert found["kind"].choice.rows == len(labelled) // 2
    assert found["kind"].choice.alternatives["uniform"].value == pytest.approx(
        one.choice.alternatives["uniform"].value, abs=1e-6
    )
    assert found["size"].choice.rows == len(table) // 2


def test_each_output_has_its_own_metric_costs_gain_and_coverage(folder, table, tmp_path):
    costs = [[0, 5], [1, 0]]
    found = quorate.tune(
        parse_spec(fields(folder)), table, label={"size": "Area"}, metric={"size": "mae"}, costs={"kind": costs},
        min_gain={"size": 1e9}, coverage={"size": 0.8}, folder=folder, runs=tmp_path,
    )  # fmt: skip
    assert (found["size"].choice.metric, found["kind"].choice.metric) == ("mae", "cost")
    assert found["size"].choice.decision != "ensemble"
    assert found["kind"].to_dict()["conformal"] == {}
    conformal = found.spec.fusions["size"].conformal
    assert conformal is not None
    assert conformal.coverage == 0.8
    assert found.spec.fusions["kind"].conformal is None


def test_rows_in_memory_have_labels_by_output(folder, tmp_path):
    from quorate.tuning.data.labelled_outputs import OutputLabels

    some = np.arange(TRAINED, len(INPUTS), 2)
    data = LabelledOutputs(
        {"x": INPUTS},
        {"kind": OutputLabels(TUMOUR[some], some), "size": OutputLabels(SIZE[some + 0], some)},
        {"kind": tuple(KINDS), "size": ()},
    )
    found = quorate.tune(parse_spec(fields(folder)), data, label={}, folder=folder, runs=tmp_path)
    assert found["kind"].choice.rows == len(some) // 2
    only = LabelledOutputs({"x": INPUTS}, {"kind": data.labels["kind"]}, data.classes)
    with pytest.raises(TuningError, match="data: labels of kind, none of size; give labels of each output"):
        quorate.tune(parse_spec(fields(folder)), only, label={}, folder=folder, runs=tmp_path)
    one = OutputLabels(SIZE[:1], np.arange(1))
    few = LabelledOutputs({"x": INPUTS}, {**data.labels, "size": one}, data.classes)
    with pytest.raises(DataError, match="size: rows: 1; give hundreds"):
        quorate.tune(parse_spec(fields(folder)), few, label={}, folder=folder, runs=tmp_path)
    with pytest.raises(TuningError, match="data: labels of kind, size; give rows with labels of the spec's one output"):
        quorate.tune(alone(folder, "kind"), data, folder=folder, runs=tmp_path)


def test_the_command_names_labels_and_metrics_by_output(folder, table, tmp_path):
    save_spec(parse_spec(fields(folder)), tmp_path / "desk.yaml")
    (tmp_path / "my_desk.py").write_text(MEMBERS)
    columns = {"x": INPUTS[TRAINED:], "kind": table["kind"].to_numpy(str), "Area": SIZE[TRAINED:]}
    np.savez(tmp_path / "rows.npz", **columns)
    words = [
        "tune",
        str(tmp_path / "desk.yaml"),
        "--data",
        str(tmp_path / "rows.npz"),
        "--runs",
        str(tmp_path / "runs"),
    ]
    words += ["--label", "size=Area", "--metric", "size=mae", "--metric", "kind=brier", "--min-gain", "size=0.5"]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert {name: one["metric"] for name, one in report["outputs"].items()} == {"kind": "brier", "size": "mae"}
    assert [report["outputs"][name]["min_gain"] for name in ("kind", "size")] == [0.0, 0.5]
    assert load_spec(report["spec"]).outputs == ("kind", "size")


def test_a_search_of_members_wants_one_output(folder, table):
    with pytest.raises(SpecError, match="outputs: there are several, kind, size, and gains of one have no common unit"):
        quorate.sweep(parse_spec(fields(folder)), table, folder=folder)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({}, "no column 'size'"),
        ({"label": "Area"}, r"label: 'Area' for 2 outputs; write --label kind=Area"),
        ({"label": {"sise": "Area"}}, "label: 'sise' is no output; did you mean 'size'"),
        ({"label": {"size": "Area"}, "metric": "accuracy"}, "size: metric: 'accuracy' of values"),
        ({"label": {"size": "kind"}}, "label 'benign' in row 0 is no finite number|is no finite number"),
        ({"label": {"size": "Area"}, "coverage": 2}, "coverage: 2; give a share above 0 and below 1"),
        ({"label": {"size": "Area"}, "train": "rows.csv"}, "train: several outputs: members are trained anew by the"),
        ({"label": {"size": "Area"}, "latency_price": 1.0}, "a member that two of them read is paid for once"),
    ],
)
def test_mistakes_are_told_with_their_output(folder, table, tmp_path, asked, sentence):
    with pytest.raises((TuningError, DataError, SpecError), match=sentence):
        quorate.tune(parse_spec(fields(folder)), table, folder=folder, runs=tmp_path, **asked)
    assert not list(tmp_path.iterdir())
