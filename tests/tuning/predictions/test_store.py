import json
import logging
import shutil
from dataclasses import replace
from typing import Any

import fsspec
import numpy as np
import pyarrow.fs
import pyarrow.ipc
import pytest
import torch
from safetensors.torch import load_file, save_file

from quorate.deployments import parse_spec
from quorate.tuning import (
    Labelled,
    OutOfFold,
    PredictionStore,
    Training,
    build,
    run_in_process,
    save_weights,
    train,
)
from quorate.tuning.architectures import BUILD
from quorate.tuning.errors import DataError, PredictionError, TuningError
from tests.tuning.support.big_ensemble import big_ensemble

pytestmark = pytest.mark.long

MEMBERS = ("weak", "middle", "strong")
BARE: dict[str, Any] = {"config": {}, "weights": None, "digest": None, "output": "probabilities"}


def changed(spec, **members):
    """The spec with some members' fields replaced."""
    data = spec.model_dump(mode="json", exclude_defaults=True)
    for name, fields in members.items():
        data["members"][name].update(fields)
    return parse_spec(data)


def test_stored_probabilities_are_the_models_own(tiny, rows, store):
    report = store.fill(tiny.spec, tiny.folder, rows, "validation")
    assert list(report.computed) == list(MEMBERS)
    for name, stored in zip(MEMBERS, store.read("validation", MEMBERS), strict=True):
        model = build(**tiny.spec.members[name].config).eval()
        model.load_state_dict(load_file(tiny.folder / tiny.spec.members[name].weights))
        with torch.inference_mode():
            expected = model(torch.from_numpy(rows.inputs["image"])).softmax(dim=1).numpy()
        np.testing.assert_allclose(stored, expected, atol=1e-6)


def test_predictions_are_mapped_from_the_file_not_copied(tiny, rows, store):
    store.fill(tiny.spec, tiny.folder, rows, "validation")
    (stored,) = store.read("validation", ["weak"])
    assert not stored.flags.owndata
    assert not stored.flags.writeable


def test_a_filled_store_computes_nothing_again(tiny, rows, store):
    store.fill(tiny.spec, tiny.folder, rows, "validation")

    def fail(job, folder, inputs):
        raise AssertionError(f"{job.name} was run again")

    report = PredictionStore(store.location).fill(tiny.spec, tiny.folder, rows, "validation", run=fail)
    assert report.kept == MEMBERS
    assert report.computed == {}


def test_a_new_member_computes_only_its_own_column(tiny, rows, store):
    store.fill(tiny.spec, tiny.folder, rows, "validation")
    data = tiny.spec.model_dump(mode="json", exclude_defaults=True)
    data["members"]["fourth"] = data["members"]["weak"]
    data["fusion"]["members"] = [*MEMBERS, "fourth"]
    report = store.fill(parse_spec(data), tiny.folder, rows, "validation")
    assert report.kept == MEMBERS
    assert report.computed == {"fourth": "not in the store yet"}


def test_resources_and_batch_size_change_no_prediction(tiny, rows, store):
    store.fill(tiny.spec, tiny.folder, rows, "validation")
    spec = changed(tiny.spec, weak={"max_batch_size": 7, "replicas": {"max": 3}})
    assert store.fill(spec, tiny.folder, rows, "validation").kept == MEMBERS


def test_a_retrained_member_is_computed_again(tiny, rows, store, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(tiny.folder, folder)
    spec = changed(tiny.spec, weak={"digest": None})
    store.fill(spec, folder, rows, "validation")
    state = load_file(folder / "artifacts/weak.safetensors")
    save_file({k: v * 2 for k, v in state.items()}, folder / "artifacts/weak.safetensors")
    assert store.fill(spec, folder, rows, "validation").computed == {"weak": "its member changed"}


def test_changed_code_of_a_factory_is_seen(tiny, rows, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = "import numpy as np\ndef make():\n    return lambda image: np.full((len(image), 10), 0.1, np.float32)\n"
    (tmp_path / "my_factory_a.py").write_text(source)
    member = {**BARE, "model": "my_factory_a:make"}
    spec = changed(tiny.spec, weak=member)
    store.fill(spec, tiny.folder, rows, "validation")
    (tmp_path / "my_factory_a.py").write_text(source + "# another version\n")
    assert store.fill(spec, tiny.folder, rows, "validation").computed == {"weak": "its code changed"}


def test_reordered_rows_and_other_labels_are_other_data(tiny, rows, store):
    store.fill(tiny.spec, tiny.folder, rows, "validation")
    backwards = rows.rows(np.arange(len(rows))[::-1])
    assert set(store.fill(tiny.spec, tiny.folder, backwards, "validation").computed.values()) == {"its data changed"}
    relabelled = replace(backwards, labels=(backwards.labels + 1) % 10)
    assert set(store.fill(tiny.spec, tiny.folder, relabelled, "validation").computed) == set(MEMBERS)


def flip_a_byte(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def reorder_rows(path):
    batch = pyarrow.ipc.open_file(path.read_bytes()).get_batch(0)
    backwards = batch.take(list(range(len(batch)))[::-1])
    with pyarrow.ipc.new_file(str(path), batch.schema) as writer:
        writer.write_batch(backwards)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (flip_a_byte, "damaged or another's"),
        (reorder_rows, "damaged or another's"),
        (lambda path: shutil.copy(path.parents[1] / "strong" / path.name, path), "damaged or another's"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "damaged or another's"),
        (lambda path: path.unlink(), "missing"),
    ],
)
def test_a_harmed_file_is_found_said_aloud_and_computed_again(tiny, rows, store, tmp_path, caplog, harm, said):
    store.fill(tiny.spec, tiny.folder, rows, "validation")
    before = [array.copy() for array in store.read("validation", MEMBERS)]
    harm(tmp_path / "predictions" / "validation" / "middle" / "00000.arrow")
    with pytest.raises(PredictionError, match=said):
        store.read("validation", MEMBERS)
    with caplog.at_level(logging.WARNING):
        report = store.fill(tiny.spec, tiny.folder, rows, "validation")
    assert list(report.computed) == ["middle"]
    assert said in report.computed["middle"]
    assert "middle" in caplog.text
    np.testing.assert_array_equal(before, store.read("validation", MEMBERS))


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 1}', '{"version": 99, "members": {}}'])
def test_a_damaged_manifest_means_everything_is_computed_again(tiny, rows, store, tmp_path, text):
    store.fill(tiny.spec, tiny.folder, rows, "validation")
    (tmp_path / "predictions" / "validation" / "manifest.json").write_text(text)
    report = store.fill(tiny.spec, tiny.folder, rows, "validation")
    assert all("manifest" in reason for reason in report.computed.values())
    assert store.members("validation") == MEMBERS


def test_the_manifest_says_what_the_predictions_were_made_from(tiny, rows, store, tmp_path):
    store.fill(tiny.spec, tiny.folder, rows, "validation")
    manifest = json.loads((tmp_path / "predictions" / "validation" / "manifest.json").read_text())
    entry = manifest["members"]["weak"]
    assert entry["data"] == rows.digest()
    assert entry["classes"] == list("0123456789")
    assert (entry["rows"], entry["dtype"], manifest["split"]) == (100, "float32", "validation")


def test_a_crash_between_members_keeps_the_finished_ones(tiny, rows, store):
    def dies(job, folder, inputs):
        if job.name == "strong":
            raise RuntimeError("out of power")
        return run_in_process(job, folder, inputs)

    with pytest.raises(RuntimeError, match="out of power"):
        store.fill(tiny.spec, tiny.folder, rows, "validation", run=dies)
    assert list(store.fill(tiny.spec, tiny.folder, rows, "validation").computed) == ["strong"]


def small_partitions(tmp_path):
    """A store of 32 rows a partition."""
    return PredictionStore(tmp_path / "small", partition_bytes=32 * 10 * 4)


def test_partitions_hold_consecutive_rows(tiny, rows, tmp_path, store):
    small = small_partitions(tmp_path)
    small.fill(tiny.spec, tiny.folder, rows, "validation")
    store.fill(tiny.spec, tiny.folder, rows, "validation")
    whole = store.read("validation", MEMBERS)
    np.testing.assert_array_equal(small.read("validation", MEMBERS), whole)
    ranges = []
    for part, probs in small.chunks("validation", MEMBERS):
        ranges.append((part.start, part.stop))
        np.testing.assert_array_equal(probs, [one[part] for one in whole])
    assert ranges == [(0, 32), (32, 64), (64, 96), (96, 100)]


def swap(folder):
    first, second = folder / "00000.arrow", folder / "00001.arrow"
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)


@pytest.mark.parametrize(
    ("harm", "numbers", "said"),
    [
        (lambda folder: flip_a_byte(folder / "00002.arrow"), [2], "partition 2 of 4 is damaged or another's"),
        (swap, [0, 1], "partition 0, 1 of 4 is damaged or another's"),
        (lambda folder: (folder / "00003.arrow").unlink(), [3], "partition 3 of 4 is missing"),
        (
            lambda folder: shutil.copy(folder.parent / "weak" / "00001.arrow", folder / "00001.arrow"),
            [1],
            "partition 1 of 4 is damaged or another's",
        ),
    ],
)
def test_only_the_rows_of_a_harmed_partition_are_computed_again(tiny, rows, tmp_path, harm, numbers, said, caplog):
    store = small_partitions(tmp_path)
    store.fill(tiny.spec, tiny.folder, rows, "validation")
    before = store.read("validation", MEMBERS)
    harm(tmp_path / "small" / "validation" / "middle")
    asked = []

    def watched(job, folder, inputs):
        asked.append(inputs["image"])
        return run_in_process(job, folder, inputs)

    report = store.fill(tiny.spec, tiny.folder, rows, "validation", run=watched)
    assert report.computed == {"middle": said}
    assert said in caplog.text
    (images,) = asked
    expected = np.concatenate([rows.inputs["image"][32 * n : 32 * n + 32] for n in numbers])
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(store.read("validation", MEMBERS), before)


def test_a_row_a_member_failed_on_is_no_true_class_column(tiny, rows, store):
    def patchy(job, folder, inputs):
        probs = run_in_process(job, folder, inputs)
        probs[3] = np.nan
        return probs

    store.fill(tiny.spec, tiny.folder, rows, "validation", run=patchy)
    with pytest.raises(PredictionError, match="1 predictions are NaN"):
        store.true_class("validation", MEMBERS, rows.labels)


def test_out_of_fold_each_row_is_predicted_by_a_model_that_has_not_seen_it(tiny, store, tmp_path):
    # Labels that mean nothing: a network that has seen a row knows its label by heart, one that has not cannot.
    random = np.random.default_rng(0)
    images = random.random((60, 1, 8, 8), dtype=np.float32)
    data = Labelled({"image": images}, np.arange(60) % 2, ("a", "b"))
    config = {"family": "mlp", "width": 128, "depth": 1, "dropout": 0.0, "image": [1, 8, 8], "classes": 2}
    how = Training(epochs=80, patience=80, learning_rate=5e-3, weight_decay=0.0, batch_size=8)
    knows = train(config, data, data, how)
    save_weights(knows.model, tmp_path / "m.safetensors")
    member = {"model": BUILD, "config": config, "weights": "m.safetensors"}
    spec = parse_spec(
        {
            "name": "heart",
            "inputs": {"image": {"datatype": "FP32", "shape": [1, 8, 8]}},
            "classes": ["a", "b"],
            "members": {"m": {**member, "inputs": ["image"]}},
            "fusion": {"rule": "mean"},
        }
    )
    store.fill(spec, tmp_path, data, "seen")
    folds = OutOfFold(folds=4, training=how)
    report = store.fill(spec, tmp_path, data, "unseen", out_of_fold=folds)
    (seen,), (unseen,) = store.read("seen", ["m"]), store.read("unseen", ["m"])
    assert (seen.argmax(1) == data.labels).mean() > 0.9
    assert 0.25 < (unseen.argmax(1) == data.labels).mean() < 0.75
    assert list(report.computed) == ["m"]
    manifest = json.loads((tmp_path / "predictions" / "unseen" / "manifest.json").read_text())
    assert manifest["members"]["m"]["out_of_fold"] == str(folds)
    assert store.fill(spec, tmp_path, data, "unseen", out_of_fold=folds).kept == ("m",)
    again = store.fill(spec, tmp_path, data, "unseen", out_of_fold=OutOfFold(folds=3, training=how))
    assert again.computed == {"m": "its out_of_fold changed"}


def test_only_members_that_are_trained_here_are_predicted_out_of_fold(tiny, rows, store, monkeypatch, tmp_path):
    spec, data = big_ensemble(tmp_path, 1, 50, 2)
    with pytest.raises(TuningError, match="rows they were not trained on"):
        store.fill(spec, tmp_path, data, "train", out_of_fold=OutOfFold())
    with pytest.raises(DataError, match="give each class at least 40"):
        store.fill(tiny.spec, tiny.folder, rows, "train", out_of_fold=OutOfFold(folds=40))
    with pytest.raises(TuningError, match="at least 2"):
        OutOfFold(folds=1)


def test_float16_halves_the_file(tiny, rows, tmp_path):
    store = PredictionStore(tmp_path / "half", dtype="float16")
    store.fill(tiny.spec, tiny.folder, rows, "validation")
    (stored,) = store.read("validation", ["weak"])
    assert stored.dtype == np.float16
    np.testing.assert_allclose(stored, run_in_process(tiny.spec.job("weak"), tiny.folder, rows.inputs), atol=1e-3)


def test_a_uri_is_a_location(tiny, rows, tmp_path):
    store = PredictionStore((tmp_path / "by-uri").as_uri())
    store.fill(tiny.spec, tiny.folder, rows, "validation")
    assert (tmp_path / "by-uri" / "validation" / "weak" / "00000.arrow").is_file()


def test_a_file_system_that_is_not_local_holds_a_store(tiny, rows, store):
    elsewhere = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fsspec.filesystem("memory", skip_instance_cache=True)))
    remote = PredictionStore("bucket/run", filesystem=elsewhere, partition_bytes=32 * 10 * 4)
    remote.fill(tiny.spec, tiny.folder, rows, "validation")
    store.fill(tiny.spec, tiny.folder, rows, "validation")
    np.testing.assert_array_equal(remote.read("validation", MEMBERS), store.read("validation", MEMBERS))
    with elsewhere.open_output_stream("bucket/run/validation/weak/00001.arrow") as file:
        file.write(b"another's")
    again = PredictionStore("bucket/run", filesystem=elsewhere, partition_bytes=32 * 10 * 4)
    report = again.fill(tiny.spec, tiny.folder, rows, "validation")
    assert report.computed == {"weak": "partition 1 of 4 is damaged or another's"}
    np.testing.assert_array_equal(again.read("validation", MEMBERS), store.read("validation", MEMBERS))


def test_rows_a_member_fails_on_are_nan_and_the_others_are_there(tiny, rows, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_factory_b.py").write_text(
        "import numpy as np\n"
        "def make():\n"
        "    def model(image):\n"
        "        if image[:, 0, 0, 0].max() > 5: raise ValueError('poison')\n"
        "        return np.full((len(image), 10), 0.1, np.float32)\n"
        "    return model\n"
    )
    member = {**BARE, "model": "my_factory_b:make"}
    image = rows.inputs["image"].copy()
    image[17] = 9.0
    store.fill(changed(tiny.spec, weak=member), tiny.folder, replace(rows, inputs={"image": image}), "validation")
    (stored,) = store.read("validation", ["weak"])
    assert np.flatnonzero(np.isnan(stored).any(axis=1)).tolist() == [17]
    assert np.isnan(stored[17]).all()


def test_members_under_other_class_names_are_aligned(tiny, rows, store):
    backwards = list("9876543210")
    spec = changed(tiny.spec, weak={"classes": backwards})
    store.fill(spec, tiny.folder, rows, "validation")
    (stored,) = store.read("validation", ["weak"])
    plain = run_in_process(tiny.spec.job("weak"), tiny.folder, rows.inputs)
    np.testing.assert_array_equal(stored, plain[:, ::-1])


def test_a_spec_without_class_names_is_refused(tiny, rows, store):
    data = tiny.spec.model_dump(mode="json", exclude_defaults=True)
    del data["classes"]
    with pytest.raises(TuningError, match="name the classes"):
        store.fill(parse_spec(data), tiny.folder, rows, "validation")
