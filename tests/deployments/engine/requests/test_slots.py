"""Places for batches come back whatever happens to the batch, and no request waits for ever."""

import asyncio
import time

import numpy as np
import pytest
from safetensors.torch import save_file

from quorate.deployments import parse_spec
from quorate.deployments.engine import engine as engine_module
from quorate.deployments.engine.batch import Batch
from quorate.deployments.engine.engine import Engine
from quorate.deployments.engine.requests import open_requests
from quorate.deployments.engine.requests.slots import Slots
from quorate.deployments.errors import DeadlineError, RequestError, SpecError
from quorate.deployments.metrics.prometheus import Metrics
from quorate.fusion.errors import QuorateError
from quorate.fusion.learned.gate import Gate, _Network
from quorate.fusion.learned.stacking import Stacking
from quorate.fusion.learned.stacking import _Network as StackingNetwork
from tests.deployments.engine.test_terms import Asked

MEMBERS = ("a", "b")


def gated(shape, **fusion):
    options = {"top_k": 1, "input_name": "x"}
    return parse_spec(
        {
            "name": "gated",
            "inputs": {"x": {"datatype": "FP32", "shape": shape}},
            "classes": ["yes", "no"],
            "members": {name: {"model": "m:build", "inputs": ["x"]} for name in MEMBERS},
            "fusion": {"rule": "gate", "options": options, "state": "gate.safetensors", "deadline_s": 0.5, **fusion},
        }
    )


@pytest.fixture
def folder(tmp_path):
    """With a gate over rows of three numbers."""
    save_file(Gate(MEMBERS, _Network(2, 3, 0), 1, "x").state(), tmp_path / "gate.safetensors")
    save_file(Stacking(MEMBERS, StackingNetwork(2, 4, 0)).state(), tmp_path / "stacking.safetensors")
    return tmp_path


@pytest.fixture(autouse=True)
def _members(monkeypatch):
    monkeypatch.setattr(engine_module, "Member", lambda name, *_: Asked(name))


def rows(width):
    return {"x": np.zeros((1, width), np.float32)}


def test_a_slot_is_given_back_once_and_by_its_block_when_that_raises():
    freed = []
    slots = Slots(1, lambda: freed.append(slots.taken))
    with slots.take() as slot:
        assert not slots.free()
    assert slots.taken == 1
    slot.release()
    slot.release()
    assert freed == [0]
    with pytest.raises(KeyError), slots.take():
        raise KeyError
    assert freed == [0, 0]
    assert slots.free()


def test_rows_that_a_gate_did_not_learn_are_refused_and_cost_nobody_else(folder):
    async def scenario():
        engine = Engine(gated([-1]), folder)
        for _ in range(20):
            with pytest.raises(RequestError, match=r"'x' have shape \[7\], but the gate 'fused' reads 3 numbers a row"):
                await engine.infer(rows(7))
        assert engine.unanswered_batches == 0
        assert not (await engine.infer(rows(3))).degraded
        engine.close()

    asyncio.run(scenario())


def test_a_gate_of_another_width_than_the_input_is_refused_when_it_is_built(folder):
    async def scenario():
        with pytest.raises(SpecError, match=r"the gate learned rows of 3 numbers, but 'x' has \[2, 2\]; train"):
            Engine(gated([2, 2]), folder)

    asyncio.run(scenario())


def test_a_rule_that_learned_other_classes_is_refused_when_it_is_built(folder):
    async def scenario():
        with pytest.raises(SpecError, match=r"fusion.state: rule 'stacking' cannot fuse 2 classes \(.*\); train it on"):
            Engine(gated([3], rule="stacking", options={}, state="stacking.safetensors"), folder)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "broken", [(Batch, "__init__"), (Batch, "start"), (Metrics, "batched"), (Batch, "settle"), (Batch, "_changed")]
)
def test_whatever_fails_in_a_batch_its_requests_end_and_the_next_are_answered(folder, monkeypatch, broken):
    owner, name = broken

    def fail(*arguments):
        raise ZeroDivisionError

    async def scenario():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        monkeypatch.setattr(open_requests, "LAST_RESORT_S", 0.1)
        engine = Engine(gated([3]), folder)
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            for found in await asyncio.gather(*[engine.infer(rows(3), 0.1) for _ in range(20)], return_exceptions=True):
                assert isinstance(found, QuorateError)
        assert engine.queued_rows == 0
        assert engine.unanswered_batches == 0
        assert not (await engine.infer(rows(3))).degraded
        engine.close()

    asyncio.run(scenario())


def test_a_request_that_everybody_forgot_ends_a_second_after_its_deadline(folder, monkeypatch, caplog):
    async def scenario():
        engine = Engine(gated([3]), folder)
        monkeypatch.setattr(engine, "_submit", lambda request, now: None)
        started = time.monotonic()
        with pytest.raises(DeadlineError, match="needs an answer but got none in time"):
            await engine.infer(rows(3), 0.05)
        assert time.monotonic() - started >= 0.05 + open_requests.LAST_RESORT_S
        engine.close()

    asyncio.run(scenario())
    assert "neither an answer nor an error 1 s after its deadline" in caplog.text


def test_what_a_last_resort_ends_is_gone_from_queue_and_batches(folder, monkeypatch):
    async def scenario():
        monkeypatch.setattr(open_requests, "LAST_RESORT_S", 0.01)
        engine = Engine(gated([3]), folder)
        monkeypatch.setattr(engine, "_schedule", lambda: None)
        monkeypatch.setattr(engine._alarm, "set", lambda deadline: None)
        with pytest.raises(DeadlineError):
            await engine.infer(rows(3), 0.05)
        assert engine.queued_rows == 0
        engine.close()

    asyncio.run(scenario())
