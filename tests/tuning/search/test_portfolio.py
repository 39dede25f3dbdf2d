import numpy as np
import optuna
import pytest

from quorate.deployments.spec.schema import MemberSpec
from quorate.tuning import Labelled, Training
from quorate.tuning.architectures import BUILD
from quorate.tuning.search.portfolio import first_trials, portfolio
from quorate.tuning.search.sampler import Proposals
from quorate.tuning.search.space import Family, SearchSpace, suggest_member
from quorate.tuning.training.training_run import TrainingRun
from quorate.tuning.training.tree_run import TreeRun, TreeTraining

SHAPES = [(1, 8, 8), (3, 12, 20), (5,)]


def rows(shape, count=40):
    random = np.random.default_rng(0)
    labels = np.arange(count) % 3
    return Labelled({"read": random.normal(size=(count, *shape)).astype(np.float32)}, labels, ("a", "b", "c"))


def proposed(space, shape, fixed, count=None):
    proposals = Proposals(lambda trial: suggest_member(trial, space, shape), 1, "tpe", 0, 4)
    return proposals.ask(0, count or len(fixed), fixed)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_configuration_is_built_and_trained_a_step(shape):
    space, data = SearchSpace().fitting(shape), rows(shape)
    known = portfolio(space, shape)
    assert len(known) == 6
    for trial, (config, how) in proposed(space, shape, known):
        assert trial.params in known
        if config["family"] in ("boosting", "forest"):
            epoch = TreeRun(data, data, TreeTraining(**how, epochs=1, trees=2)).step()
        else:
            epoch = TrainingRun(config, data, data, Training(**how, epochs=1)).step()
        assert np.isfinite(epoch.validation_log_loss)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_first_trials_are_the_portfolio_and_then_the_sampler_proposes(shape):
    space = SearchSpace().fitting(shape)
    known = portfolio(space, shape)
    asked = [trial.params for trial, _ in proposed(space, shape, known, count=8)]
    assert asked[:6] == known
    assert asked[6] not in known


def test_a_space_that_allows_less_gets_the_nearest_and_each_once():
    few = Family(width=(8, 16), depth=(1, 1), learning_rate=(1e-3, 2e-3))
    space = SearchSpace(families={"mlp": few, "cnn": Family(width=(4, 6))}).fitting((1, 8, 8))
    known = portfolio(space, (1, 8, 8))
    mlp = {"mlp.width": 16, "mlp.depth": 1, "mlp.learning_rate": 2e-3}
    assert [one.items() >= mlp.items() for one in known if one["family"] == "mlp"] == [True]
    assert {one["cnn.width"] for one in known if one["family"] == "cnn"} == {6}
    assert len({str(one) for one in known}) == len(known)


def test_given_networks_come_first_with_their_sizes_and_weights():
    config = {"family": "mlp", "image": [1, 8, 8], "classes": 3, "width": 777, "depth": 5}
    given = {
        "ours": MemberSpec(model=BUILD, config=config, weights="given/a.safetensors", inputs=("image",)),
        "theirs": MemberSpec(model="their.code:model", inputs=("image",)),
    }
    shape = (1, 8, 8)
    space, first = first_trials(SearchSpace().fitting(shape), shape, given)
    assert first[0].weights == "given/a.safetensors"
    assert [one.weights for one in first[1:]] == [None] * 6
    ((trial, (built, _)), *_) = proposed(space, shape, [one.params for one in first])
    assert trial.params["mlp.width"] == 777
    assert {key: built[key] for key in ("family", "width", "depth", "dropout")} == {
        "family": "mlp", "width": 777, "depth": 5, "dropout": 0.1,
    }  # fmt: skip


def test_weights_are_taken_over_where_they_have_the_shape():
    data = rows((1, 8, 8))
    config = {"family": "mlp", "width": 16, "depth": 1}
    first = TrainingRun(config, data, data, Training(epochs=1, seed=1))
    same = TrainingRun(config, data, data, Training(epochs=1, seed=2), start=first.model.state_dict())
    wider = TrainingRun({**config, "depth": 2}, data, data, Training(epochs=1, seed=2), start=first.model.state_dict())
    for name, value in first.model.state_dict().items():
        assert (same.model.state_dict()[name] == value).all()
    assert (wider.model.state_dict()["net.1.weight"] == first.model.state_dict()["net.1.weight"]).all()


def test_no_value_is_out_of_its_range(recwarn):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for shape in SHAPES:
        space = SearchSpace().fitting(shape)
        proposed(space, shape, portfolio(space, shape))
    assert not recwarn.list
