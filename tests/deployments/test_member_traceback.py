"""Which lines of a traceback are a member's own."""

import importlib
import sys

import pytest
import torch

from quorate.deployments.errors import MemberLoadError
from quorate.deployments.member_traceback import own_lines, own_place
from quorate.deployments.sources.loading import load_model
from quorate.deployments.spec.schema import MemberSpec

CODE = """
import torch

class Net(torch.nn.Module):
    def forward(self, x):
        return self.deeper(x)

    def deeper(self, x):
        return torch.nn.functional.linear(x, torch.zeros(3, 9))

class Odd(Net):
    def eval(self):
        raise OSError("no room for it")

def needs_onnx():
    import onnxruntime.nothing_like_it

def chained():
    try:
        {}["weights"]
    except KeyError as error:
        raise ValueError("no weights\\nin two lines") from error
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_code.py").write_text(CODE)
    (tmp_path / "own_broken.py").write_text("x = 1\ndef f(:\n")
    (tmp_path / "own_needs.py").write_text("import nobody_has_this\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("own_code")
    del sys.modules["own_code"]


def raised(function, *arguments):
    with pytest.raises(Exception) as found:
        function(*arguments)
    error = found.value
    assert error.__traceback__ is not None
    return error.with_traceback(error.__traceback__.tb_next)  # without this file's own frame


def test_the_last_lines_of_the_members_own_files_are_shown_and_none_of_a_librarys(own):
    lines = own_lines(raised(own.Net(), torch.zeros(1, 2)))
    assert lines.splitlines() == [
        "  own_code.py:6, in forward",
        "    return self.deeper(x)",
        "  own_code.py:9, in deeper",
        "    return torch.nn.functional.linear(x, torch.zeros(3, 9))",
    ]


def test_a_failure_is_known_by_the_last_of_its_lines(own):
    assert own_place(raised(own.chained)) == "own_code.py:22"


def test_code_of_a_library_alone_has_no_lines_of_its_own():
    error = raised(torch.nn.Linear(2, 3), torch.zeros(1, 9))
    assert (own_lines(error), own_place(error)) == ("", "")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("own_code:chained", "failed with ValueError: no weights\nin two lines; correct it, or its config\n"
         '  own_code.py:22, in chained\n    raise ValueError("no weights\\nin two lines") from error'),
        ("own_broken:f", "invalid syntax (own_broken.py, line 2); correct the file\n  own_broken.py:2\n    def f(:"),
        ("own_needs:f", "No module named 'nobody_has_this'; install nobody_has_this on every node that runs the "
         "member, or put it beside the spec\n  own_needs.py:1\n    import nobody_has_this"),
        ("own_code:Odd", "loading own_code:Odd failed with OSError: no room for it; correct the member, or its files\n"
         '  own_code.py:13, in eval\n    raise OSError("no room for it")'),
        ("own_code:needs_onnx", "; run on every node: pip install 'quorate[onnx]'\n  own_code.py:16, in needs_onnx\n"
         "    import onnxruntime.nothing_like_it"),
        ("own_code:Nett", "own_code has no 'Nett'; did you mean 'Net'?"),
    ],
)  # fmt: skip
def test_a_member_that_cannot_be_loaded_says_so_whole_with_its_lines(own, tmp_path, model, said):
    with pytest.raises(MemberLoadError) as found:
        load_model("m", MemberSpec(model=model, inputs=("x",)), tmp_path)
    assert str(found.value).endswith(said)
