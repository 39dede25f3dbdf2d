"""Programs of torch.export: inputs by name, any number of rows also of what was exported for one, half precision."""

import numpy as np
import pytest
import torch
from torch import nn

from quorate.deployments import load_model, parse_spec
from quorate.deployments.errors import MemberLoadError, SpecError
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.spec.check_files import check_files
from quorate.deployments.spec.model_files.notes import notes

pytestmark = pytest.mark.long

PRICE = np.array([[5.0, 1.0], [7.0, 2.0], [1.0, 3.0]], np.float32)
COST = np.array([[2.0, 1.0], [3.0, 1.0], [4.0, 1.0]], np.float32)


class Profit(nn.Module):
    def forward(self, price, cost):
        return {"profit": price - cost, "loss": cost - price}


def spec(*inputs, datatype="FP32", shape=(2,), **words):
    member = {"model": "m.pt2", "inputs": list(inputs), "output": "values", **words}
    tensors = {name: {"datatype": datatype, "shape": list(shape)} for name in inputs}
    return parse_spec({"name": "one", "inputs": tensors, "members": {"m": member}, "fusion": {"rule": "mean"}})


def ran(spec, folder, **inputs):
    check_files(spec, folder)
    found = Predictor(load_model("m", spec.members["m"], folder), spec.job("m"))
    found.warm_up()
    values, status = found.run(inputs, probabilities=True)
    assert not status.any()
    return values


def exported(folder, module, *example, rows=None):
    dims = tuple({0: torch.export.Dim.AUTO} for _ in example) if rows is None else None
    torch.export.save(torch.export.export(module.eval(), example, dynamic_shapes=dims), folder / "m.pt2")


def test_inputs_and_outputs_are_known_by_their_names(tmp_path):
    exported(tmp_path, Profit(), torch.zeros(2, 2), torch.zeros(2, 2))
    for inputs in (("price", "cost"), ("cost", "price")):
        found = ran(spec(*inputs, output_name="profit"), tmp_path, price=PRICE, cost=COST)
        np.testing.assert_array_equal(found, PRICE - COST)
    assert notes(spec("price", "cost"), tmp_path) == ()
    with pytest.raises(MemberLoadError, match=r"m\.pt2 reads price \[.*\], cost \[.*\], and the member x; "):
        load_model("m", spec("x").members["m"], tmp_path)


def test_what_a_program_reads_is_compared_with_the_spec_without_torch(tmp_path):
    exported(tmp_path, Profit(), torch.zeros(2, 2), torch.zeros(2, 2))
    for found, sentence in (
        (spec("x"), r"members\.m\.inputs: m\.pt2 reads price \(FP32 \[-1, 2\]\), cost .*, and the member x; say which"),
        (spec("cost", "price", shape=[3]), r"inputs\.\w+\.shape: \[3\], and .* FP32 \[-1, 2\]; write shape: \[2\]"),
        (spec("cost", "price", datatype="FP64"), r"inputs\.\w+\.datatype: FP64, and .*; write datatype: FP32"),
    ):
        with pytest.raises(SpecError, match=sentence):
            check_files(found, tmp_path)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_program_for_a_fixed_number_of_rows_answers_any_number_and_a_note_says_so(tmp_path, rows):
    module = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
    exported(tmp_path, module, torch.zeros(rows, 2), rows=rows)
    expected = module(torch.from_numpy(PRICE)).detach().numpy()
    np.testing.assert_allclose(ran(spec("x"), tmp_path, x=PRICE), expected, atol=1e-6)
    (note,) = notes(spec("x"), tmp_path)
    assert f"was exported for {'a row' if rows == 1 else '2 rows'} at a time" in note
    assert "torch.export.Dim" in note


def test_a_program_in_half_precision_reads_float32(tmp_path):
    module = nn.Linear(2, 3).to(torch.bfloat16)
    exported(tmp_path, module, torch.zeros(2, 2, dtype=torch.bfloat16))
    expected = module(torch.from_numpy(PRICE).bfloat16()).float().detach().numpy()
    np.testing.assert_array_equal(ran(spec("x"), tmp_path, x=PRICE), expected)
