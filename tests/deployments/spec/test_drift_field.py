"""What a spec may say of drift, and that it restarts nothing."""

import pytest

from quorate.deployments import parse_spec
from quorate.deployments.errors import SpecError
from quorate.deployments.learning.drift.reference import KINDS
from quorate.deployments.spec.fields.drift import DriftSpec
from quorate.deployments.spec.named_files import named_files
from tests.deployments.support.drifting_ensemble import drifting_spec


def test_all_statistics_are_looked_at_unless_some_are_named():
    assert DriftSpec().statistics == tuple(KINDS)


def test_it_is_beside_what_answers_and_its_reference_is_a_file_of_the_spec():
    with_drift = parse_spec(drifting_spec("e", {"reference": "drift-tuned.json"}))
    without = parse_spec(drifting_spec("e", None))
    assert with_drift.wiring == without.wiring
    assert with_drift.revision != without.revision
    assert [file.field for file in named_files(with_drift)] == ["drift.reference"]


@pytest.mark.parametrize(
    ("drift", "said"),
    [
        ({"statistics": ["loss", "accuracy"]}, "drift.statistics"),
        ({"false_alarms": 0}, "drift.false_alarms"),
        ({"webhook": "alarms.example"}, "drift.webhook"),
        ({"window": 100}, "drift.window"),
    ],
)
def test_what_nothing_reads_is_refused(drift, said):
    with pytest.raises(SpecError, match=said):
        parse_spec(drifting_spec("e", drift))
