"""Programs of TorchScript that could open files, told from those that only have names like it."""

import pytest

from quorate.deployments.spec.model_files.torchscript_code import opening_word

# As torch.jit.save writes them.
INNER = """class Inner(Module):
  __parameters__ = []
  def forward(self: __torch__.Inner,
    x: Tensor) -> Tensor:
    return x
  def save(self: __torch__.Inner,
    x: Tensor) -> Tensor:
    return torch.mul(x, 2)
"""
OUTER = """class Outer(Module):
  inner : __torch__.Inner
  save : bool
  def forward(self: __torch__.Outer,
    x: Tensor) -> Tensor:
    inner = self.inner
    {}
    return x
"""


@pytest.mark.parametrize(
    "line",
    [
        "return (inner).save(x, )",
        "save = self.save",
        'ops.prim.RaiseException("cannot save so many", "builtins.RuntimeError")',
        "from_file = torch.add(x, 1)",
    ],
)
def test_names_and_texts_of_ones_own_open_nothing(line):
    assert opening_word({"__torch__": OUTER.format(line) + INNER}) is None


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ('torch.save(x, "f")', "save"),
        ('ops.aten.save(x, "f")', "save"),
        ('x.save("f")', "save"),
        ('_0 = torch.from_file("f", False, 4)', "from_file"),
        ('(inner.x).save("f")', "save"),
        ('inner = x\n    (inner).save("f")', "save"),
        ('self = x\n    self.save("f")', "save"),
        ('y = self.training\n    y.save("f")', "save"),
        ('_0 = "\\""\n    # "\n    torch.save(x, "f")', "save"),
        ("torch.save(x, ", "save"),
    ],
)
def test_an_operator_on_whatever_value_is_told(line, word):
    assert opening_word({"__torch__": OUTER.format(line) + INNER}) == word


def test_a_parameter_that_is_given_an_attribute_later_is_no_attribute():
    text = OUTER.replace("x: Tensor)", "x: Tensor, inner: Tensor)").format('(inner).save("f")')
    assert opening_word({"__torch__": text + INNER}) == "save"


def test_classes_of_other_modules_are_known():
    outer = OUTER.replace("__torch__.Inner", "__torch__.nets.Inner").format("return (inner).save(x, )")
    assert opening_word({"__torch__": outer, "__torch__.nets": INNER}) is None
    assert opening_word({"__torch__": outer}) == "save"
