"""What ``online`` asks of a spec."""

import pytest
import yaml

from quorate.deployments import load_spec, parse_spec
from quorate.deployments.errors import SpecError
from tests.deployments.support.known_answers import two_known

RECORD = {"record": {"folder": "/var/lib/record"}}


def spec(rule=None, **changed):
    plain = two_known("known")
    plain["fusion"] |= rule or {}
    return {**plain, **RECORD, **changed}


@pytest.mark.parametrize("written", ["live", {"mode": "live"}, {"mode": "live", "publish_every": "10m"}])
def test_a_mode_alone_is_a_mode(written):
    assert parse_spec(spec(online=written)).online.publish_every_s == 600


@pytest.mark.parametrize("written", ["off", False, {}])
def test_off_is_off_however_it_is_written_and_names_no_other_revision(written):
    assert parse_spec(spec(online=written)).revision == parse_spec(spec()).revision


@pytest.mark.parametrize("written", ["off", "shadow", "live"])
def test_a_file_may_say_off_without_quotes(tmp_path, written):
    file, plain = tmp_path / "known.yaml", spec()
    for member in plain["members"].values():
        member |= {"model": "torch.nn:Identity", "config": {}}
    file.write_text(f"{yaml.safe_dump(plain)}online: {written}\n")
    assert load_spec(file).online.mode == written


@pytest.mark.parametrize(
    ("changed", "field", "found"),
    [
        ({"online": "live", "record": None}, "online", "nothing is recorded"),
        ({"online": "shadow", "record": {"folder": "/r", "share": 0}}, "record.share", "0 records no answer"),
        ({"online": "live", "task": "multilabel"}, "online", "of the task multilabel are learned and never published"),
        ({"online": "live", "rule": {"rule": "geometric_mean"}}, "online", "the rule is geometric_mean"),
        (
            {"online": "live", "rule": {"conformal": {"coverage": 0.9}}},
            "online", "conformal sets hold for the weights that they were fitted with",
        ),
        (
            {"online": "shadow", "rule": {"rule": "bandit", "weights": None, "options": {"max_loss": 0.1}}},
            "online", "tune --explore",
        ),
        (
            {"online": "live", "rule": {"rule": "bandit", "weights": None, "options": {"explore": 0.1}}},
            "online", "tune --max-loss",
        ),
        ({"online": "alive"}, "online.mode", "alive"),
        ({"online": {"mode": "live", "publish_every": "soon"}}, "online.publish_every", "soon"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_or_published_is_refused_with_what_to_do(changed, field, found):
    with pytest.raises(SpecError) as refused:
        parse_spec(spec(**changed))
    assert field in str(refused.value)
    assert found in str(refused.value)


def test_the_shadow_learns_what_is_never_published():
    for changed in ({"task": "multilabel"}, {"rule": {"rule": "geometric_mean"}}):
        assert parse_spec(spec(online="shadow", **changed)).online.mode == "shadow"
