"""Weights out of what training leaves: states, checkpoints around them, wrappers' names; nothing that runs code."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from quorate.deployments import load_model, parse_spec
from quorate.deployments.errors import MemberLoadError, SpecError
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.spec.check_files import check_files

ROWS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
FACTORY = """
from torch import nn

def net():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
"""


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    net(torch.randn(32, 3))
    return net.eval()


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Checks a spec of these weights, loads its member and gives its logits for ROWS."""
    (tmp_path / "net_of_weights.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))

    def ask(weights, model="net_of_weights:net"):
        member = {"model": model, "inputs": ["x"], "weights": weights}
        inputs = {"x": {"datatype": "FP32", "shape": [3]}}
        rest = {"classes": ["a", "b"], "members": {"m": member}, "fusion": {"rule": "mean"}}
        spec = parse_spec({"name": "one", "inputs": inputs, **rest})
        check_files(spec, tmp_path)
        predictor = Predictor(load_model("m", spec.members["m"], tmp_path), spec.job("m"))
        predictor.warm_up()
        return predictor.run({"x": ROWS}, probabilities=False)[0]

    return ask


def prefixed(state, prefix):
    return {f"{prefix}{name}": value for name, value in state.items()}


SAVED = {
    "state.pt": lambda net: net.state_dict(),
    "state.pth": lambda net: net.state_dict(),
    "pytorch_model.bin": lambda net: net.state_dict(),
    "checkpoint.ckpt": lambda net: {"epoch": 3, "state_dict": prefixed(net.state_dict(), "model."), "lr": [0.1]},
    "parallel.pt": lambda net: prefixed(net.state_dict(), "module."),
    "compiled.pt": lambda net: {"model": prefixed(net.state_dict(), "module._orig_mod."), "optimizer": {"state": {}}},
    "with_loss.ckpt": lambda net: {
        "state_dict": {**prefixed(net.state_dict(), "net."), "criterion.weight": torch.ones(2)}
    },
    "with_step.pt": lambda net: {"step": torch.tensor(4), "state_dict": net.state_dict()},
    "odd_key.pt": lambda net: {"generator": net.state_dict(), "step": 4},
}


@pytest.mark.parametrize("name", SAVED)
def test_what_training_leaves_gives_the_modules_own_answers(asked, trained, tmp_path, name):
    torch.save(SAVED[name](trained), tmp_path / name)
    expected = trained(torch.from_numpy(ROWS)).detach().numpy()
    np.testing.assert_allclose(asked(name), expected, atol=1e-6)


def test_files_of_the_old_format_are_read_too(asked, trained, tmp_path):
    torch.save(trained.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    np.testing.assert_allclose(asked("old.pth"), trained(torch.from_numpy(ROWS)).detach().numpy(), atol=1e-6)


def test_safetensors_of_a_wrapped_module_fit_too(asked, trained, tmp_path):
    save_file(prefixed(trained.state_dict(), "module."), tmp_path / "m.safetensors")
    np.testing.assert_allclose(asked("m.safetensors"), trained(torch.from_numpy(ROWS)).detach().numpy(), atol=1e-6)


def test_a_torchscript_program_is_a_model_by_its_path(asked, trained, tmp_path):
    with pytest.warns(DeprecationWarning, match="jit"):
        torch.jit.save(torch.jit.trace(trained, torch.from_numpy(ROWS)), tmp_path / "m.pt")
    expected = trained(torch.from_numpy(ROWS)).detach().numpy()
    np.testing.assert_allclose(asked(None, "m.pt"), expected, atol=1e-6)


def test_two_networks_that_both_fit_are_refused(asked, trained, tmp_path):
    both = {**prefixed(trained.state_dict(), "student."), **prefixed(trained.state_dict(), "teacher.")}
    torch.save(both, tmp_path / "both.pt")
    with pytest.raises(MemberLoadError, match=r"both\.pt does not fit the model: .*Missing key"):
        asked("both.pt")


def test_what_is_missing_is_named_as_the_module_has_it(asked, trained, tmp_path):
    state = prefixed(trained.state_dict(), "module.")
    del state["module.2.bias"]
    torch.save(state, tmp_path / "most.pt")
    with pytest.raises(MemberLoadError, match=r'does not fit the model: .*Missing key\(s\) in state_dict: "2\.bias"'):
        asked("most.pt")


@pytest.mark.parametrize(
    ("save", "model", "sentence"),
    [
        (lambda net, path: torch.save(net, path), None, r"m\.pt is a pickle of torch\.nn\.modules\.\w+\.\w+, .* if you "
         r"trust where it is from, quorate convert m\.pt --to safetensors$"),
        (lambda net, path: torch.save(net, path), "m.pt", "--to safetensors, and give that as weights of a factory"),
        (lambda net, path: torch.save(net.state_dict(), path), "m.pt", "is a checkpoint .*, no TorchScript program"),
        (lambda net, path: path.write_bytes(b"junk"), None, r"m\.pt is no file that torch writes; save"),
        (lambda net, path: path.write_bytes(b"\x80\x04K\x01."), None, r"m\.pt is a pickle, which may run code"),
    ],
)  # fmt: skip
def test_other_files_are_refused_at_once_with_what_to_do(asked, trained, tmp_path, save, model, sentence):
    save(trained, tmp_path / "m.pt")
    with pytest.raises(SpecError, match=sentence):
        asked(None, model) if model else asked("m.pt")


@pytest.mark.parametrize(
    ("saved", "sentence"),
    [
        ({"epoch": 3}, "holds no module's state: it holds no tensor, but epoch"),
        ({"a": {"w": torch.ones(1)}, "b": {"w": torch.ones(1)}}, "holds the state of several modules: a, b"),
        (torch.ones(2), "it holds one Tensor"),
    ],
)
def test_a_file_without_a_state_says_what_it_has(asked, tmp_path, saved, sentence):
    torch.save(saved, tmp_path / "m.pt")
    with pytest.raises(MemberLoadError, match=sentence):
        asked("m.pt")
