"""What nothing reads any more is no part of a spec that was made of another."""

from quorate.deployments import parse_spec
from quorate.tuning.runs.unread import without_the_unread
from tests.deployments.spec.test_check_placement import spec


def test_lists_of_where_members_run_name_only_members_that_are_left():
    data = spec(together=[["a", "b"]], apart=["c"]).model_dump(mode="json", exclude_defaults=True)
    data["fusion"]["members"] = ["a"]
    left = parse_spec(without_the_unread(data, ["fused"]))
    assert (list(left.members), left.together, left.apart) == (["a"], (), ())
    data["fusion"]["members"] = ["a", "b"]
    left = parse_spec(without_the_unread(data, ["fused"]))
    assert (list(left.members), left.together, left.apart) == (["a", "b"], (("a", "b"),), ())
