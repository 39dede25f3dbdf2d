"""Parsers given good texts that are broken at random: a result or a sentence, in little time, each of them."""

import io
import json
import random
import time
import wave
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from onnx import TensorProto, helper
from pyarrow import parquet

from quorate.deployments import load_spec
from quorate.deployments.errors import RequestError
from quorate.deployments.rows.column import Column, Place
from quorate.deployments.rows.reading import Wanted, read_inputs
from quorate.deployments.rows.sounds import samples_of
from quorate.deployments.spec.files import dump_spec
from quorate.deployments.spec.model_files.check_torch_file import check_torch_file
from quorate.deployments.spec.model_files.export_files import read_export
from quorate.deployments.spec.model_files.onnx_files import OnnxFileError, read_onnx
from quorate.deployments.wire.datatypes import bytes_array
from quorate.fusion.errors import QuorateError
from quorate.tuning.data.tables import read_table
from quorate.tuning.latency.curves import Curve, Measured, load_measured
from quorate.tuning.search.journal import Finished, Journal
from tests.deployments.support.wire_parsers import ROWS, SPEC, WIRE

# Processor seconds of one text, 5 times what the specification of these tests gives it.
LIMIT_S = 5.0
ROUNDS = [40, pytest.param(2_000, marks=pytest.mark.slow)]
INTERESTING = [
    b"\0",
    b"\xff" * 4,
    b"[" * 2_000,
    b"{",
    b'"',
    b"9" * 400,
    b"-",
    b"1e999",
    b"\n",
    b": ",
    b"&a [*a, *a]",
    b"%",
    b"PK\3\4",
]
LABELLED = pa.table({"x": ROWS.tolist(), "label": ["0", "1", "0", "1"]})
INPUTS = {"x": Wanted("FP32", (2,))}


def broken(random_, text):
    """The text with one to four changes: bits, cuts, repetitions, what means something somewhere."""
    data = bytearray(text)
    for _ in range(random_.randint(1, 4)):
        at = random_.randrange(len(data) + 1)
        to = min(len(data), at + random_.choice((1, 1, 4, 50)))
        match random_.randrange(5):
            case 0:
                data[at:to] = b""
            case 1:
                data[at:at] = data[at:to] * random_.choice((1, 2, 300))
            case 2:
                data[at:to] = random_.choice(INTERESTING)
            case 3:
                data[at:at] = random_.choice(INTERESTING)
            case _ if at < len(data):
                data[at] ^= 1 << random_.randrange(8)
    return bytes(data)


def written(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def arrow(file):
    with pa.ipc.new_file(file, LABELLED.schema) as writer:
        writer.write_table(LABELLED)


def wav(file):
    with wave.open(file, "wb") as sound:
        sound.setnchannels(2)
        sound.setsampwidth(3)
        sound.setframerate(8000)
        sound.writeframes(bytes(range(60)))


def onnx_model():
    """A matrix that multiplies, as a file of ONNX."""
    read, given = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 2]) for n in ("x", "y"))
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2, 2], [1.0, 2.0, 3.0, 4.0])
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    model = helper.make_model(helper.make_graph([node], "g", [read], [given], [weight]))
    return bytes(model.SerializeToString())


def program():
    """What of a program of torch.export is read before torch does."""
    tensor = {"dtype": 7, "sizes": [{"as_expr": {"expr_str": "s0"}}, {"as_int": 2}]}
    signature = {"input_specs": [{"user_input": {"arg": {"as_tensor": {"name": "x"}}}}]}
    graph = {"graph_module": {"signature": signature, "graph": {"tensor_values": {"x": tensor}}}}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m/models/model.json", json.dumps(graph))
    return file.getvalue()


def read_model(path):
    try:
        return read_onnx(path)
    except OnnxFileError as error:
        raise RequestError(str(error)) from None


def read_program(path):
    found = read_export(path)
    if found is None:
        raise RequestError("torch will say what it is")
    return found


def check_weights(path):
    check_torch_file("weights", path.name, path, model=False)


def in_file(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    return path


def _parse(parse, _folder, data):
    return parse(data)


NPZ = written(lambda file: np.savez(file, x=ROWS, label=np.array(["0", "1", "0", "1"])))
ONLY_ROWS = written(lambda file: np.savez(file, x=ROWS))
PARQUET = written(lambda file: parquet.write_table(LABELLED, file))
# Each: a good text, and what parses it, given a folder and the text.
PARSERS: dict[str, tuple[bytes, Callable[[Path, bytes], object]]] = {
    **{what: (wire.good, partial(_parse, wire.parse)) for what, wire in WIRE.items()},
    "a spec": (dump_spec(SPEC).encode(), lambda folder, data: load_spec(in_file(folder, "spec.yaml", data))),
    "rows as .npy": (
        written(lambda file: np.save(file, ROWS)), lambda f, data: read_inputs(in_file(f, "rows.npy", data), INPUTS),
    ),
    "rows as .npz": (ONLY_ROWS, lambda folder, data: read_inputs(in_file(folder, "rows.npz", data), INPUTS)),
    "rows as .json": (
        json.dumps(ROWS.tolist()).encode(), lambda f, data: read_inputs(in_file(f, "rows.json", data), INPUTS),
    ),
    "rows as .jsonl": (
        b"".join(json.dumps({"x": row}).encode() + b"\n" for row in ROWS.tolist()),
        lambda f, data: read_inputs(in_file(f, "rows.jsonl", data), INPUTS),
    ),
    "rows as .csv": (
        b"x,y\n1.5,a\n2,\"b,c\"\n",
        lambda f, data: read_inputs(in_file(f, "rows.csv", data), {"x": Wanted("FP32", ())}),
    ),
    "sounds as .wav": (
        written(wav), lambda f, data: samples_of(Column(bytes_array([data] * 2), (), 2), Place("rows", "x"))
    ),
    "a model as .onnx": (onnx_model(), lambda f, data: read_model(in_file(f, "m.onnx", data))),
    "weights as .pt": (
        written(lambda file: torch.save({"w": torch.ones(2)}, file)),
        lambda f, data: check_weights(in_file(f, "m.pt", data)),
    ),
    "weights as an old .pt": (
        written(lambda file: torch.save({"w": torch.ones(2)}, file, _use_new_zipfile_serialization=False)),
        lambda f, data: check_weights(in_file(f, "m.pt", data)),
    ),
    "a program as .pt2": (program(), lambda f, data: read_program(in_file(f, "m.pt2", data))),
    "rows as .arrow": (written(arrow), lambda folder, data: read_inputs(in_file(folder, "rows.arrow", data), INPUTS)),
    "rows as .parquet": (PARQUET, lambda folder, data: read_inputs(in_file(folder, "rows.parquet", data), INPUTS)),
    "labelled .npz": (NPZ, lambda f, data: read_table(in_file(f, "rows.npz", data), {"x": (2,)}, ("0", "1"))),
    "labelled .parquet": (
        PARQUET, lambda f, data: read_table(in_file(f, "rows.parquet", data), {"x": (2,)}, ("0", "1")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("what", PARSERS)
def test_a_broken_text_is_read_or_refused_in_words_and_in_little_time(tmp_path, what, rounds):
    good, parse = PARSERS[what]
    random_ = random.Random(f"{what} {rounds}")
    refused = 0
    parse(tmp_path, good)
    for _ in range(rounds):
        text = broken(random_, good)
        started = time.thread_time()
        try:
            parse(tmp_path, text)
        except QuorateError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"{type(error).__name__} for {text[:300]!r}: {error}") from error
        assert time.thread_time() - started < LIMIT_S, text[:300]
    assert refused >= rounds / 10


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_broken_file_of_a_run_is_damage_and_never_an_error(tmp_path, rounds):
    random_ = random.Random(rounds)
    Journal(tmp_path).write("members", Finished(0, {"family": "mlp"}, {"log_loss": 0.5}))
    Measured({"a": Curve("cpu", {1: 0.1}, {1: 0.2}, (0.1,))}).save(tmp_path)
    files = [tmp_path / "trials/members/00000.json", tmp_path / "measured.json"]
    good = [path.read_bytes() for path in files]
    for _ in range(rounds):
        for path, text in zip(files, good, strict=True):
            path.write_bytes(broken(random_, text))
        trials, damage = Journal(tmp_path).read("members")
        assert len(trials) + len(damage) == 1
        load_measured(tmp_path)
