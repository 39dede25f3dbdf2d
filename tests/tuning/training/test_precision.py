import pytest
import torch

from quorate.deployments.sources.loading import load_model
from quorate.tuning import build, run_in_process
from quorate.tuning.architectures.precision import parameter_bytes
from quorate.tuning.errors import ArchitectureError

torchao = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
FAMILIES = [
    {"family": "cnn", "width": 8},
    {"family": "rnn", "width": 16},
    {"family": "transformer", "width": 32, "patch": 2},
    {"family": "mlp", "width": 64},
]


def spec_in(tiny, numbers, name="strong"):
    member = tiny.spec.members[name]
    changed = member.model_copy(update={"config": {**member.config, "format": numbers}})
    return tiny.spec.model_copy(update={"members": {**tiny.spec.members, name: changed}})


@pytest.mark.long
@pytest.mark.parametrize("numbers", ["bf16", pytest.param("int8", marks=torchao)])
def test_a_member_in_fewer_bits_says_nearly_the_same_from_the_same_checkpoint(tiny, numbers):
    if numbers == "int8":
        pytest.importorskip("torchao")
    rows = tiny.splits.test.inputs
    plain = run_in_process(tiny.spec.job("strong"), tiny.folder, rows)
    fewer = run_in_process(spec_in(tiny, numbers).job("strong"), tiny.folder, rows)
    gap = abs(plain - fewer).max()
    assert 0 < gap < 0.05
    assert (plain.argmax(1) == fewer.argmax(1)).mean() > 0.99


@pytest.mark.parametrize("config", FAMILIES, ids=lambda config: config["family"])
@pytest.mark.parametrize("numbers", ["bf16", pytest.param("int8", marks=torchao)])
def test_every_family_runs_in_every_format(config, numbers):
    if numbers == "int8":
        pytest.importorskip("torchao")
    torch.manual_seed(0)
    plain = build(**config, image=[1, 8, 8], classes=5).eval()
    fewer = build(**config, image=[1, 8, 8], classes=5, format=numbers)
    fewer.load_state_dict(plain.state_dict())
    images = torch.rand(6, 1, 8, 8)
    with torch.inference_mode():
        said, expected = fewer.eval()(images), plain(images)
    assert said.dtype == torch.float32
    assert (said - expected).abs().max() < 0.1 * max(1.0, float(expected.abs().max()))


@torchao
def test_bytes_are_those_that_the_parameters_take(tiny):
    pytest.importorskip("torchao")
    sizes = {}
    for numbers in ("fp32", "bf16", "int8"):
        spec = spec_in(tiny, numbers)
        module = load_model("strong", spec.members["strong"], tiny.folder, torch.device("cpu")).module
        assert module is not None
        sizes[numbers] = parameter_bytes(module)
    numbers_of = 64 * 32 + 32 + 32 * 10 + 10
    assert sizes["fp32"] == 4 * numbers_of
    assert sizes["bf16"] == 2 * numbers_of
    # weights of a byte; per output a float32 scale and bias, and what else torchao keeps
    assert 64 * 32 + 32 * 10 + (32 + 10) * 8 <= sizes["int8"] < sizes["fp32"] / 3


def test_an_unknown_format_is_refused():
    with pytest.raises(ArchitectureError, match="give one of fp32, bf16, int8"):
        build(family="mlp", image=[1, 8, 8], format="fp4")
