"""Rows and predictions that do not fit into memory."""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.ipc
import pytest
from pyarrow import parquet

from quorate.deployments import save_spec
from quorate.tuning import PredictionStore, read_table, run_in_process, simplex_weights, tune_fusion
from quorate.tuning.predictions.answered_rows import usable_rows
from quorate.tuning.runs.probe import load_probe
from quorate.tuning.solvers.columns import Columns
from quorate.tuning.solvers.simplex import solved_log_loss
from tests.tuning.support.big_ensemble import big_ensemble, factory_ensemble

pytestmark = pytest.mark.long

MEMBERS = ("weak", "middle", "strong")


def test_predictions_larger_than_memory_are_gone_through(tmp_path):
    # 4 members, 60,000 rows, 100 classes: 96 MB of probabilities, solved while numpy holds a fifth of that
    members, rows, classes = 4, 60_000, 100
    spec, data = big_ensemble(tmp_path, members, rows, classes)
    store = PredictionStore(tmp_path / "big", partition_bytes=2 << 20)
    store.fill(spec, tmp_path, data, "validation")
    names = list(spec.members)
    tracemalloc.start()
    try:
        columns = store.true_class("validation", names, data.labels)
        solved = solved_log_loss(Columns(columns))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < members * rows * classes * 4 / 3
    whole = simplex_weights(np.stack(store.read("validation", names)), data.labels)
    np.testing.assert_allclose(solved.values, whole.values, atol=1e-12)
    assert solved.score == pytest.approx(whole.score, abs=1e-12)


def test_weights_are_tuned_on_predictions_larger_than_memory(tmp_path):
    # 4 members, 2 x 5,000 rows, 400 classes: 64 MB of probabilities, tuned while numpy holds a third of that
    members, rows, classes = 4, 10_000, 400
    spec, data = big_ensemble(tmp_path, members, rows, classes)
    halves = data.rows(slice(0, rows // 2)), data.rows(slice(rows // 2, rows))
    store = PredictionStore(tmp_path / "big", partition_bytes=1 << 20, window_bytes=2 << 20)

    def failing(job, folder, inputs):
        probs = run_in_process(job, folder, inputs)
        probs[inputs["number"][:, 0] % 1000 == 0] = np.nan
        return probs

    for split, half in zip(("validation", "held-out"), halves, strict=True):
        store.fill(spec, tmp_path, half, split, run=failing)
    names = list(spec.members)
    solve, held = (
        usable_rows(names, store.read(split, names), half.labels)
        for split, half in zip(("validation", "held-out"), halves, strict=True)
    )
    tune_fusion(spec, tmp_path, *(half.rows(slice(0, 100)) for half in halves), runs=tmp_path / "warm")
    tracemalloc.start()
    try:
        result = tune_fusion(spec, tmp_path, *halves, runs=tmp_path / "runs", store=store, memory_bytes=1 << 20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < members * rows * classes * 4 / 3
    assert set(result.rows_left_out.values()) == {5}
    whole = simplex_weights(solve.probs, solve.labels)  # the weights are of all rows, and only the choice is sampled
    np.testing.assert_allclose(list(result.weights.values()), whole.values, atol=1e-9)
    assert result.choice.rows == (1 << 20) // (members * classes * 4)
    probe = load_probe(result.folder, result.spec, None if result.choice.recommended == "tuned" else "tuned")
    fused = np.tensordot(whole.values, held.probs[:, : len(probe.expected)], axes=1)
    np.testing.assert_allclose(probe.expected, fused, atol=1e-6)


def test_rows_of_a_table_too_large_for_memory_are_taken_into_a_file_too(tmp_path):
    random = np.random.default_rng(0)
    parquet.write_table(large_table(random), tmp_path / "rows.parquet")
    classes = [str(c) for c in range(50)]
    data = read_table(tmp_path / "rows.parquet", {"pixels": (512,)}, classes, memory_bytes=1 << 20)
    order = random.permutation(len(data))[:1000]
    taken = data.rows(order)
    assert isinstance(taken.inputs["pixels"], np.memmap)
    np.testing.assert_array_equal(taken.inputs["pixels"], np.asarray(data.inputs["pixels"])[order])
    mask = data.labels == 3
    np.testing.assert_array_equal(data.rows(mask).inputs["pixels"], np.asarray(data.inputs["pixels"])[mask])


SCALED = """
import numpy as np

def make(scale):
    return lambda pixels: (pixels[:, :50] * scale).astype(np.float32)
"""

LARGE = """
import sys, threading, time
from pathlib import Path
import numpy as np
from quorate.deployments import load_spec
from quorate.tuning import PredictionStore, read_table
from quorate.tuning.solvers.columns import Columns
from quorate.tuning.predictions.run_member import run_in_process
from quorate.tuning.solvers.simplex import solved_log_loss

def anonymous():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) << 10

folder = Path(sys.argv[1])
spec = load_spec(folder / "spec.yaml")
warm = read_table(folder / "few.parquet", {"pixels": (512,)}, spec.classes)
PredictionStore(folder / "warm").fill(spec, folder, warm, "validation")
before, peak, done = anonymous(), [0], threading.Event()

def watch():
    while not done.wait(0.003):
        peak[0] = max(peak[0], anonymous())

thread = threading.Thread(target=watch)
thread.start()
data = read_table(folder / "rows.parquet", {"pixels": (512,)}, spec.classes, memory_bytes=1 << 20)
store = PredictionStore(folder / "store", partition_bytes=1 << 20, window_bytes=16 << 20)
store.fill(spec, folder, data, "validation")
solved = solved_log_loss(Columns(store.true_class("validation", list(spec.members), data.labels)))
done.set()
thread.join()
size = data.inputs["pixels"].nbytes
assert len(store._manifest("validation")[0]["m0"].files) > 10
print(size, peak[0] - before, *solved.values)
"""


def test_rows_and_predictions_larger_than_memory_stay_on_disk(tmp_path):
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is read from /proc")
    configs = [{"scale": 1 + 3 * i} for i in range(2)]
    spec = factory_ensemble(tmp_path / "my_factory_g.py", SCALED, ("pixels", 512), configs, 50)
    save_spec(spec, tmp_path / "spec.yaml")
    random = np.random.default_rng(0)
    for name, groups in (("few", 1), ("rows", 16)):  # 16 x 4096 rows of 512 float32: 128 MiB
        with parquet.ParquetWriter(tmp_path / f"{name}.parquet", large_table(random).schema) as writer:
            for _ in range(groups):
                writer.write_table(large_table(random), row_group_size=4096)
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    size, grown, *weights = map(float, done.stdout.split())
    assert size == 128 << 20
    assert grown < size / 2
    assert sum(weights) == pytest.approx(1)


def large_table(random):
    pixels = random.random((4096, 512), dtype=np.float32)
    labels = pixels[:, :50].argmax(axis=1)
    column = pa.FixedSizeListArray.from_arrays(pa.array(pixels.ravel()), 512)
    return pa.table({"pixels": column, "label": [str(label) for label in labels]})


def test_a_member_is_run_window_by_window(tiny, rows, tmp_path, store):
    windows = PredictionStore(tmp_path / "windows", partition_bytes=32 * 40, window_bytes=70 * (64 * 4 + 40))
    asked = []

    def watched(job, folder, inputs):
        asked.append(len(inputs["image"]))
        return run_in_process(job, folder, inputs)

    windows.fill(tiny.spec, tiny.folder, rows, "validation", run=watched)
    assert asked == [64, 36] * 3
    store.fill(tiny.spec, tiny.folder, rows, "validation")
    np.testing.assert_allclose(windows.read("validation", MEMBERS), store.read("validation", MEMBERS), atol=1e-6)
