"""Members' models: factories, safetensors, torch.export; what cannot be loaded is said in a sentence."""

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from quorate.deployments import load_model, parse_spec
from quorate.deployments.errors import MemberLoadError
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.spec.digests import file_digest

FACTORIES = """
import numpy as np
import torch

def by_keyword(width, bias=True):
    return torch.nn.Linear(3, width, bias=bias)

def by_dict(config):
    return torch.nn.Linear(3, config["width"])

def number():
    return 7

def plain():
    return lambda x: x.sum(axis=1, keepdims=True).repeat(2, axis=1)

class Named(torch.nn.Module):
    def forward(self, price, tax=None, cost=None):
        return price - cost if tax is None else price - cost - tax

def named(cost, price):
    return price - cost

def itself(x, scale=1.0):
    return scale * x[:, :2]

async def itself_async(x):
    import asyncio
    await asyncio.sleep(0)
    return x[:, :2]

class Async:
    async def __call__(self, x):
        return {"values": x[:, :2]}

async def make_async(offset):
    async def run(x):
        assert not torch.is_grad_enabled()
        return x[:, :2] + offset
    return run

network = torch.nn.Linear(3, 2)

def sizes(**files):
    from pathlib import Path
    read = [sum(f.stat().st_size for f in Path(p).rglob("*")) if Path(p).is_dir() else len(p) for p in files.values()]
    return lambda x: np.repeat(np.array([read], np.float32), len(x), axis=0)

class Doubling(torch.nn.Module):
    def forward(self, x):
        assert x.dtype == torch.bfloat16
        return 2 * x
"""
ROWS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


class Difference(nn.Module):
    def forward(self, cost, price):
        return price - cost


@pytest.fixture
def member(tmp_path, monkeypatch):
    """Give a one-member ensemble's job, its factories in a fresh folder."""
    name = f"factories_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(datatype="FP32", classes=("a", "b"), **words):
        words["model"] = words["model"].replace("mine:", f"{name}:")
        spec = parse_spec(
            {
                "name": "one",
                "inputs": {"x": {"datatype": datatype, "shape": [3]}},
                "classes": list(classes) if classes else None,
                "members": {"m": {"inputs": ["x"], **words}},
                "fusion": {"rule": "mean"},
            }
        )
        return spec.job("m")

    return make


def load(job, folder):
    return load_model(job.name, job.member, folder)


def test_a_factory_is_called_with_its_config_and_given_its_weights(member, tmp_path):
    trained = nn.Linear(3, 2)
    save_file(trained.state_dict(), tmp_path / "m.safetensors")
    expected = trained(torch.from_numpy(ROWS)).detach().numpy()
    for factory in ("mine:by_keyword", "mine:by_dict"):
        job = member(model=factory, config={"width": 2}, weights="m.safetensors")
        np.testing.assert_array_equal(load(job, tmp_path).predict({"x": ROWS}), expected)


@pytest.mark.long
def test_a_torch_export_program_is_loaded_for_any_batch_size(member, tmp_path):
    module = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).eval()
    rows = torch.export.Dim("rows", min=1, max=64)
    program = torch.export.export(module, (torch.zeros(2, 3),), dynamic_shapes=({0: rows},))
    torch.export.save(program, str(tmp_path / "m.pt2"))
    job = member(model="m.pt2", digest=file_digest(tmp_path / "m.pt2"))
    model = load(job, tmp_path)
    Predictor(model, job).warm_up()
    for count in (1, 4):
        expected = module(torch.from_numpy(ROWS[:count])).detach().numpy()
        np.testing.assert_allclose(model.predict({"x": ROWS[:count]}), expected, rtol=1e-6)


def test_any_callable_on_arrays_is_a_model(member, tmp_path):
    model = load(member(model="mine:plain"), tmp_path)
    np.testing.assert_allclose(model.predict({"x": ROWS})[:, 0], ROWS.sum(axis=1), rtol=1e-6)


def test_bfloat16_reaches_the_module_as_bfloat16(member, tmp_path):
    rows = ROWS.astype(ml_dtypes.bfloat16)
    model = load(member("BF16", None, model="mine:Doubling", output="values"), tmp_path)
    np.testing.assert_array_equal(model.predict({"x": rows}), 2 * rows.astype(np.float32))


def test_logits_become_probabilities_over_the_ensembles_classes(member, tmp_path):
    job = member(model="mine:by_keyword", config={"width": 2}, classes=("a", "b", "c"))
    job = job.model_copy(update={"member": job.member.model_copy(update={"classes": ("c", "a")})})
    model = load(job, tmp_path)
    values, status = Predictor(model, job).run({"x": ROWS}, probabilities=True)
    soft = torch.softmax(torch.from_numpy(model.predict({"x": ROWS})), dim=1).numpy()
    np.testing.assert_allclose(values, np.stack([soft[:, 1], np.zeros(4), soft[:, 0]], axis=1), atol=1e-6)
    assert not status.any()


@pytest.mark.parametrize("factory", ["Named", "named", "scripted.pt"])
def test_inputs_go_by_their_names_where_the_model_has_them(member, tmp_path, factory):
    job = member(model=factory if "." in factory else f"mine:{factory}", output="values", classes=None)
    if factory == "scripted.pt":
        with pytest.warns(DeprecationWarning, match="jit"):
            torch.jit.save(torch.jit.trace(Difference(), (torch.ones(2, 3), torch.ones(2, 3))), tmp_path / factory)
    job = job.model_copy(update={"member": job.member.model_copy(update={"inputs": ("price", "cost")})})
    found = load(job, tmp_path).predict({"price": ROWS, "cost": 3 * ROWS})
    np.testing.assert_allclose(found, -2 * ROWS, rtol=1e-6)


@pytest.mark.parametrize(
    ("factory", "config", "expected"),
    [
        ("itself", {}, ROWS[:, :2]),
        ("itself", {"scale": 2.0}, 2 * ROWS[:, :2]),
        ("itself_async", {}, ROWS[:, :2]),
        ("Async", {}, ROWS[:, :2]),
        ("make_async", {"offset": 1.0}, ROWS[:, :2] + 1),
    ],
)
def test_a_callable_may_be_the_model_itself_and_async(member, tmp_path, factory, config, expected):
    job = member(model=f"mine:{factory}", config=config, output="values", classes=None)
    found = Predictor(load(job, tmp_path), job)
    found.warm_up()
    np.testing.assert_array_equal(found.run({"x": ROWS}, probabilities=True)[0], expected)


def test_a_module_that_is_there_already_is_the_model_itself(member, tmp_path):
    model = load(member(model="mine:network"), tmp_path)
    assert model.module is not None
    expected = model.module(torch.from_numpy(ROWS)).detach().numpy()
    np.testing.assert_allclose(model.predict({"x": ROWS}), expected, rtol=1e-6)


def test_paths_in_a_config_start_from_the_specs_folder(member, tmp_path, monkeypatch):
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "vocabulary").write_bytes(b"12345")
    config = {"a": "./tokenizer", "b": "tokenizer"}  # a path, and a word: the second is handed on as it is
    job = member(model="mine:sizes", config=config, output="values", classes=None)
    assert load(job, tmp_path).predict({"x": ROWS})[0].tolist() == [5.0, len("tokenizer")]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"model": "mine:nobody"}, "has no 'nobody'"),
        ({"model": "mine:by_keyword", "config": {"widht": 2}}, "failed with TypeError"),
        ({"model": "mine:number"}, "returned 7; return an nn.Module or a callable"),
        ({"model": "mine:plain", "weights": "m.safetensors"}, "which takes no weights"),
        ({"model": "mine:by_keyword", "config": {"width": 9}, "weights": "m.safetensors"}, "does not fit the model"),
        ({"model": "mine:by_keyword", "config": {"width": 2}, "weights": "junk.safetensors"}, "cannot be read"),
        ({"model": "junk.pt2"}, "is no torch.export program"),
        ({"model": "junk.pt2", "digest": "sha256:" + "0" * 64}, "but has sha256:"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*pt2.*")
def test_what_cannot_be_loaded_is_said_in_a_sentence(member, tmp_path, words, sentence):
    save_file(nn.Linear(3, 2).state_dict(), tmp_path / "m.safetensors")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    (tmp_path / "junk.pt2").write_bytes(b"junk")
    with pytest.raises(MemberLoadError) as error:
        load(member(**words), tmp_path)
    assert sentence in str(error.value)
    assert str(error.value).startswith("members.m: ")
