"""quorate.convert: safetensors out of what only a pickle's code can read, in another process, after a warning."""

import pickle
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import skops.io
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

import quorate
from quorate.deployments.errors import RequestError

pytestmark = pytest.mark.long

NET = """
from pathlib import Path
from torch import nn

Path(__file__).with_name("imported").touch()

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
"""


def test_a_whole_module_is_converted_in_a_process_of_its_own_after_a_warning(tmp_path, monkeypatch):
    (tmp_path / "net_to_convert.py").write_text(NET)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        from net_to_convert import Net  # type: ignore[import-not-found]

        net = Net()
        torch.save(net, tmp_path / "m.pt")
    del sys.modules["net_to_convert"]
    (tmp_path / "imported").unlink()
    told: list[str] = []
    done = quorate.convert(tmp_path / "m.pt", on_step=told.append)
    assert (done.path, done.module, done.ran_code) == (tmp_path / "m.safetensors", "net_to_convert:Net", True)
    assert done.tensors == {"layer.weight": ("float32", (2, 3)), "layer.bias": ("float32", (2,))}
    torch.testing.assert_close(load_file(done.path), dict(net.state_dict()))
    assert told[-1].startswith("warning: m.pt is a pickle, whose code runs now")
    assert (tmp_path / "imported").exists()
    assert "net_to_convert" not in sys.modules


def test_a_plain_checkpoint_is_converted_without_running_anything(tmp_path):
    layer = torch.nn.Linear(3, 2)
    torch.save({"epoch": 1, "state_dict": {"w": layer.weight, "tied": layer.weight}}, tmp_path / "m.ckpt")
    told: list[str] = []
    done = quorate.convert(tmp_path / "m.ckpt", output=tmp_path / "out.safetensors", on_step=told.append)
    assert (done.ran_code, told) == (False, ["reading m.ckpt"])
    assert sorted(load_file(tmp_path / "out.safetensors")) == ["tied", "w"]


def test_what_cannot_be_converted_is_said_in_a_sentence(tmp_path):
    (tmp_path / "gone.pt").write_bytes(pickle.dumps(Path("x")).replace(b"pathlib", b"pathlob"))
    with pytest.raises(RequestError, match=r"gone\.pt cannot be converted: .*; run this where the code"):
        quorate.convert(tmp_path / "gone.pt")
    with pytest.raises(RequestError, match="there is no file"):
        quorate.convert(tmp_path / "nothing.pt")
    with pytest.raises(RequestError, match=r"no way to convert gone\.pt to 'onnx'; write --to safetensors"):
        quorate.convert(tmp_path / "gone.pt", to="onnx")
    (tmp_path / "a.h5").write_bytes(b"")
    with pytest.raises(
        RequestError, match=r"no file of torch\.save, and no pickled estimator; give one that ends in \.pt"
    ):
        quorate.convert(tmp_path / "a.h5")
    (tmp_path / "a.joblib").write_bytes(pickle.dumps([1]))
    with pytest.raises(RequestError, match=r"a\.joblib cannot be converted: it holds a list, which neither predicts"):
        quorate.convert(tmp_path / "a.joblib")


def test_a_pickled_estimator_is_written_by_skops_after_a_warning(tmp_path):
    rows, labels = load_iris(return_X_y=True)
    model = RandomForestClassifier(3, random_state=0).fit(rows, labels)
    joblib.dump(model, tmp_path / "m.joblib")
    told: list[str] = []
    done = quorate.convert(tmp_path / "m.joblib", to="skops", on_step=told.append)
    assert (done.path, done.module) == (tmp_path / "m.skops", "sklearn.ensemble._forest:RandomForestClassifier")
    assert told[-1].startswith("warning: m.joblib is a pickle, whose code runs now, in a process of its own")
    again = skops.io.load(done.path, trusted=list(done.untrusted))
    np.testing.assert_array_equal(again.predict_proba(rows), model.predict_proba(rows))
    assert "config: {trusted: [sklearn.tree._tree.Tree]}" in str(done)
