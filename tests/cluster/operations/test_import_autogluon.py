"""``quorate import autogluon``: the spec answers as the predictor does. AutoGluon wants an environment of its own."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris

import quorate
from quorate.deployments.engine.offline_graph import OfflineGraph
from quorate.deployments.errors import MemberLoadError, RequestError
from quorate.fusion.errors import MissingExtraError
from tests.deployments.support.patients import near, patients, predictor_of, served, spec_of

SMALL = {"GBM": {"num_boost_round": 30}, "CAT": {"iterations": 30}, "RF": {"n_estimators": 10}, "LR": {}, "KNN": {}}


def test_a_folder_that_is_no_predictor_and_one_to_write_that_is_not_empty_are_refused(tmp_path):
    with pytest.raises(RequestError, match="is no folder of an AutoGluon predictor"):
        quorate.import_autogluon(tmp_path, out=tmp_path / "new")
    (tmp_path / "predictor.pkl").write_bytes(b"")
    with pytest.raises(RequestError, match="is not empty"):
        quorate.import_autogluon(tmp_path, out=tmp_path)


def test_without_autogluon_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "autogluon", None)
    (tmp_path / "predictor.pkl").write_bytes(b"")
    with pytest.raises(MissingExtraError, match=r"quorate\[autogluon\]"):
        quorate.import_autogluon(tmp_path, out=tmp_path / "new")


def test_a_members_folder_is_a_pickle_that_the_config_must_allow(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(MemberLoadError, match=r"is a pickle, .* write config: {allow_pickle: true}"):
        predictor_of(spec_of("autogluon:folder"), tmp_path)


@pytest.fixture
def fit(tmp_path):
    """Train a predictor; gives it."""
    tabular = pytest.importorskip("autogluon.tabular", reason="needs AutoGluon: make test-autogluon")

    def run(frame, labels, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            predictor = tabular.TabularPredictor(
                label="label", path=str(tmp_path / "trained"), verbosity=0, eval_metric=options.pop("eval_metric", None)
            )
            options = {"hyperparameters": SMALL, "ag_args_fit": {"num_cpus": 1}, **options}
            return predictor.fit(frame.assign(label=labels), **options)

    return run


def answered(folder, inputs):
    """What the spec of a folder answers, and the spec."""
    spec = quorate.load_spec(folder / "spec.yaml")
    output = OfflineGraph(spec, folder, inputs).node("fused")
    assert output.present.all()
    return output.aligned, spec


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_spec_answers_as_predict_proba_with_text_and_missing_values(fit, tmp_path):
    frame, labels = patients()
    predictor = fit(frame.iloc[:400], labels[:400])
    done = quorate.import_autogluon(predictor.path, out=tmp_path / "new", name="patients")
    assert np.isclose(sum(done.weights.values()), 1)
    assert len(done.weights) > 1
    found, spec = answered(tmp_path / "new", served(frame))
    near(found, predictor.predict_proba(frame)[list(spec.classes)].to_numpy())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_bags_stacks_and_a_temperature_are_those_of_the_predictor(fit, tmp_path):
    rows, labels = load_iris(return_X_y=True, as_frame=True)
    models = {"GBM": {"num_boost_round": 10}, "RF": {"n_estimators": 5}, "LR": {}}
    options = {
        "num_bag_folds": 2,
        "num_bag_sets": 1,
        "num_stack_levels": 1,
        "calibrate": True,
        "hyperparameters": models,
    }
    predictor = fit(
        rows, labels, eval_metric="log_loss", ag_args_ensemble={"fold_fitting_strategy": "sequential_local"}, **options
    )
    quorate.import_autogluon(predictor.path, out=tmp_path / "new")
    inputs = {"_".join(name.replace("(", "").replace(")", "").split()): rows[name].to_numpy() for name in rows}
    found, spec = answered(tmp_path / "new", inputs)
    assert spec.fusion.calibration is not None
    near(found, predictor.predict_proba(rows).to_numpy())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_regression_gives_the_predictors_values(fit, tmp_path):
    rows, target = load_diabetes(return_X_y=True, as_frame=True)
    predictor = fit(rows, target)
    quorate.import_autogluon(predictor.path, out=tmp_path / "new")
    found, _ = answered(tmp_path / "new", {name: rows[name].to_numpy() for name in rows})
    np.testing.assert_allclose(found[:, 0], predictor.predict(rows), rtol=1e-6)
