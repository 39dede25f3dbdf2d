import pytest

from quorate.deployments.spec.digests import file_digest
from quorate.tuning import SearchSpace
from quorate.tuning.errors import SweepError
from quorate.tuning.search.generations import Task
from quorate.tuning.search.journal import Finished, Journal
from quorate.tuning.search.members.training_search import TrainingSearch


class Heads(TrainingSearch):
    phase = "heads"
    trials = 4

    def _propose(self, generation, numbers, known):
        return [Task(number, {"known": list(known)}) for number in numbers if number not in self.finished]


@pytest.fixture
def said():
    return []


@pytest.fixture
def search(tmp_path, said):
    return Heads(tmp_path, SearchSpace(), {}, seed=0, parallel=2, say=said.append)


def trial(number, folder, content=b"weights"):
    path = folder / "members" / f"head-{number}.safetensors"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    member = {"model": "m:build", "weights": f"members/{path.name}", "digest": file_digest(path), "inputs": ["image"]}
    return Finished(number, {}, details={"member": member})


def test_generations_go_on_from_what_has_run(search, tmp_path):
    search.finished = {0: trial(0, tmp_path), 1: trial(1, tmp_path), 2: trial(2, tmp_path)}
    assert search.next() == [Task(3, {"known": []})]
    assert search.next() == []


def test_what_a_training_says_is_told_and_a_lost_one_is_a_failure(search, said):
    assert search._checked(3, {"said": ["checkpoint is damaged"]})["said"]
    assert said == ["head 3: checkpoint is damaged"]
    assert search._checked(3, None)["failure"] == "its worker died again and again"


def test_a_full_disk_ends_the_sweep(search):
    with pytest.raises(SweepError, match=r"cannot be written \(No space left on device\)"):
        search._checked(0, {"storage": "No space left on device"})


def test_damaged_records_and_weights_are_told_of(search, said, tmp_path):
    for number in range(3):
        Journal(tmp_path).write("heads", trial(number, tmp_path))
    (tmp_path / "trials" / "heads" / "00000.json").write_text("{")
    (tmp_path / "members" / "head-1.safetensors").write_bytes(b"other")
    (tmp_path / "members" / "head-2.safetensors").unlink()
    found = search._recorded()
    assert said == ["heads/00000.json is damaged: the trial runs again"]
    assert search._damage(found[1]) == "head-1.safetensors has other bytes than were written"
    assert search._damage(found[2]) == "head-2.safetensors is missing"
