"""The models of a bandit that was learned are a file of its revision: it is on every node, whoever has made it."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from quorate.fusion import fit_bandit
from tests.cluster.three_nodes.cluster import PLACES
from tests.cluster.three_nodes.machine import DISK, ROOT, address, wait_for
from tests.cluster.three_nodes.oracle import FOLDER, MEMBERS, ensemble
from tests.deployments.support.factories.oracle import shares

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]


def bandit(state):
    """Asks everybody, whose answers are hardly ever more often right than the first one's."""
    rows = np.random.default_rng(1).integers(1, 1 << 20, size=600)
    said = torch.from_numpy(np.stack([shares(rows, member) for member in range(3)]))
    rule = fit_bandit(
        MEMBERS, ["a"], [[], ["b", "c"]], said, said[0].argmax(dim=1), weights=(0.1, 0.1, 1.0), explore=0.4
    )
    save_file(rule.state(), state)
    return {"rule": "bandit", "members": list(MEMBERS), "options": rule.at_price(-2.0).keeping(0.1, 0.95).options,
            "state": state.name, "deadline_s": 5.0}  # fmt: skip


def test_what_was_learned_goes_live_on_all_nodes_and_outlives_the_one_that_learned_it(nodes, deploy):
    folder = nodes.folder / "asks"
    folder.mkdir()
    for factory in (ROOT / FOLDER).glob("oracle.py"):
        (folder / factory.name).write_text(factory.read_text())
    spec = {
        **ensemble("asks", {"a": 0.9, "b": 0.05, "c": 0.05}), "fusion": bandit(folder / "bandit.safetensors"),
        "record": {"folder": f"{DISK}/record"}, "online": {"mode": "live", "publish_every": "1s"},
    }  # fmt: skip
    port = deploy(spec, takes_labels=True, folder=str(folder))["http"].rpartition(":")[2]
    doors = [f"http://{address(place)}:{port}" for place in PLACES]

    def fusions():
        found = nodes.driver().do("fusion", name="asks")
        return [(one["revision"], one["spec"]["fusion"]["state"]) for one in found]

    def learned():
        return nodes.driver().do("learned", name="asks") or {"labels": 0, "published": 0}

    wait_for(lambda: "mode" in learned(), "it has begun", 120)
    nodes.driver().do("teach", name="asks", doors=doors, answers=40, seed=0, member=2)
    wait_for(lambda: learned()["labels"] == 800, "all labels are learned from", 180)
    wait_for(lambda: learned()["published"] > 0, "a bandit goes live", 180)
    wait_for(lambda: len(fusions()) == 3 and len(set(fusions())) == 1, "it is live on all nodes", 120)
    ((live, path),) = set(fusions())
    assert path.startswith("learned/")
    for place in PLACES:
        found = nodes.nodes[place].run("find", "/dev/shm", "-path", f"*revisions/{live}/{path}", "-size", "+0")
        assert found.strip(), f"{place} has the file"

    learner = nodes.driver().do("learner", name="asks")["node"]
    away = next((place for place in PLACES[1:] if address(place) == learner), PLACES[-1])
    nodes.switch_off(away)
    wait_for(lambda: len(fusions()) == 2, "two doors are left", 120)
    assert {revision for revision, _ in fusions()} == {live}
    nodes.switch_on(away)
    wait_for(lambda: len(fusions()) == 3 and len(set(fusions())) == 1, "the third is as the others", 300)
