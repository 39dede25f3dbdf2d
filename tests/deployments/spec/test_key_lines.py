"""Where a field stands in a spec file."""

import pytest

from quorate.deployments.spec.text.key_lines import spec_line

SPEC = """name: e
inputs: {x: {datatype: FP32, shape: [4]}}
members:
  a:
    inputs: [x]
    model: "mine:a"
  b: {inputs: [x],
      model: "mine:b"}
fusion: {rule: mean}
"""


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("members.a.model", 6),
        ("members.b.model", 8),
        ("members.b.weights", 7),
        ("inputs.x.shape.0", 2),
        ("members.c", 3),
        ("fusion.rule", 9),
    ],
)
def test_a_field_is_on_the_line_of_its_key_or_of_the_nearest_above_it(tmp_path, field, line):
    path = tmp_path / "e.yaml"
    path.write_text(SPEC)
    assert spec_line(path, field) == f"e.yaml:{line}"


@pytest.mark.parametrize("text", ["a: [", "", "- a\n- b\n", "\t"])
def test_what_holds_no_such_field_has_no_line(tmp_path, text):
    path = tmp_path / "e.yaml"
    path.write_text(text)
    assert spec_line(path, "members.a.model") == ""
    assert spec_line(tmp_path / "none.yaml", "members.a.model") == ""
