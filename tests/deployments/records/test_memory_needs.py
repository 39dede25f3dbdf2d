"""What replicas were seen to need is what is planned with when they start again."""

from quorate.deployments import parse_spec
from quorate.deployments.records.memory_needs import MemoryNeeds, Needs, file_bytes, needs_of
from tests.deployments.support.memory_store import MemoryStore


def job(name="m", ensemble="needy", **fields):
    spec = parse_spec(
        {
            "name": ensemble,
            "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
            "members": {name: {"model": "a:b", "inputs": ["x"], "output": "values", **fields}},
            "fusion": {"rule": "mean"},
        }
    )
    return spec.job(name)


def test_what_was_measured_is_known_of_the_same_member_under_another_name_and_with_other_resources():
    known = MemoryNeeds(MemoryStore())
    known.note([job()], Needs(10**9, measured=True))
    assert known.of([job("other", "another", replicas={"max": 3}, resources={"num_cpus": 4})]) == Needs(10**9, 0, True)
    assert known.of([job(config={"width": 9})]) is None
    assert known.of([job(max_batch_size=512)]) is None
    assert known.of([job(resources={"num_gpus": 1})]) is None
    assert known.of([job(), job("other")]) is None


def test_the_most_that_was_seen_is_kept():
    known = MemoryNeeds(MemoryStore())
    for memory, gpu in ((2 * 10**9, 0), (10**9, 3 * 10**9), (2.1 * 10**9, 3 * 10**9)):
        known.note([job()], Needs(int(memory), gpu, measured=True))
    assert known.of([job()]) == Needs(2 * 10**9, 3 * 10**9, measured=True)


def test_before_a_measurement_files_say_what_is_needed_at_least(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"0" * 3_000_000)
    known, one = MemoryNeeds(MemoryStore()), job(weights="w.safetensors")
    size = file_bytes("m", one.member, tmp_path)
    assert str(needs_of([one], {"m": size}, known)) == "3 MB or more"
    on_gpu = job(weights="w.safetensors", resources={"num_gpus": 0.5})
    assert str(needs_of([on_gpu], {"m": size}, known)) == "3 MB of a GPU or more"
    known.note([one], Needs(1_200_000_000, measured=True))
    assert str(needs_of([one], {"m": size}, known)) == "1.2 GB"
