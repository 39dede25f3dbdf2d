"""The event loop runs what is short and cannot hang; the thread beside it runs all else, to the same bits."""

import asyncio
import threading

import numpy as np
import pytest
import torch
from torch import nn

from quorate.deployments import parse_spec
from quorate.deployments.members.inside.inside_thread import InsideThread
from quorate.deployments.members.inside.short_passes import SHORT_S, ShortPasses, why_unbounded
from quorate.deployments.members.member_group import MemberGroup
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.sources.model import Model
from quorate.deployments.sources.torch_layers import code_of_others, without_hooks
from quorate.deployments.transport.member_call import MemberCall
from quorate.deployments.transport.messages import Kind, Payload
from tests.deployments.support.factories import layers
from tests.deployments.support.member_threads import running


class OwnForward(nn.Linear):
    def forward(self, rows):
        return super().forward(rows)


def hooked():
    network = nn.Sequential(nn.Linear(4, 3))
    network[0].register_forward_hook(lambda module, inputs, output: None)
    return network


def patched():
    network = nn.Sequential(nn.Linear(4, 3))
    network[0].forward = lambda rows: rows[:, :3]
    return network


def with_callable():
    return nn.TransformerEncoderLayer(4, 2, activation=lambda rows: rows)


def spec_of(member=None, tensor=None, **fields):
    return parse_spec(
        {
            "name": "short",
            "inputs": {"x": {"datatype": "FP32", "shape": [4], **(tensor or {})}},
            "classes": ["a", "b", "c"],
            "members": {"m": {"model": "layers:perceptron", "inputs": ["x"], **(member or {})}},
            "fusion": {"rule": "mean", "deadline_s": 5.0},
            **fields,
        }
    )


def predictor(network, **how):
    spec = spec_of(**how)
    return Predictor(Model("m", spec.members["m"], network, torch.device("cpu"), True), spec.job("m"))


def calls_of(rows, members=1):
    payload = Payload([np.zeros((rows, 4), np.float32)])
    return [MemberCall(place, place, Kind.CALL_PROBABILITIES, payload, float("inf")) for place in range(members)]


@pytest.mark.parametrize("network", [layers.perceptron(0), layers.deep(0), nn.LSTM(4, 3), nn.Linear(4, 3)])
def test_a_network_of_torchs_own_layers_can_do_nothing_but_compute(network):
    assert why_unbounded(predictor(network)) == ""


@pytest.mark.parametrize("make", [lambda: nn.Sequential(OwnForward(4, 3)), hooked, patched, with_callable])
def test_a_network_that_runs_other_code_may_do_anything(make):
    assert "code that is not torch's" in why_unbounded(predictor(make()))


@pytest.mark.parametrize(
    "how",
    [
        {"tensor": {"shape": [-1]}},
        {"tensor": {"datatype": "BYTES", "shape": [1]}},
        {"member": {"preprocess": {"x": {"standardise": {"mean": [0.0], "std": [1.0]}}}}},
        {"member": {"resources": {"num_cpus": 2}}},
    ],
    ids=["free size", "texts", "read first", "threads"],
)
def test_a_member_whose_rows_do_not_bound_its_time_is_the_threads(how):
    assert why_unbounded(predictor(layers.perceptron(0), **how))


def test_the_first_of_each_size_and_all_behind_a_long_one_are_the_threads_until_one_is_short_there():
    passes = ShortPasses([predictor(layers.perceptron(0))])
    assert not passes.fit(calls_of(1))
    passes.took(calls_of(1), SHORT_S / 10)
    assert passes.fit(calls_of(1))
    assert not passes.fit(calls_of(64))
    passes.took(calls_of(64), 2 * SHORT_S)
    assert passes.fit(calls_of(1))
    assert not passes.fit(calls_of(64))
    passes.took(calls_of(64), SHORT_S / 2)
    assert passes.fit(calls_of(64))
    passes.took(calls_of(1), 2 * SHORT_S)
    assert not passes.fit(calls_of(1))


def test_of_several_members_each_must_be_short():
    passes = ShortPasses([predictor(layers.perceptron(0)), predictor(hooked())])
    passes.took(calls_of(1), 0.0)
    passes.took(calls_of(1, members=2), 0.0)
    assert passes.fit(calls_of(1))
    assert not passes.fit(calls_of(1, members=2))


@pytest.mark.parametrize("make", [layers.perceptron, layers.deep])
def test_without_the_search_for_hooks_no_bit_is_another(make):
    network = make(0)
    assert not code_of_others(network)
    direct = without_hooks(network)
    for rows in (1, 2, 7, 64):
        x = torch.randn(rows, 4, generator=torch.Generator().manual_seed(rows))
        with torch.inference_mode():
            assert direct(x).numpy().tobytes() == network(x).numpy().tobytes()


def test_short_passes_run_on_the_event_loop_and_others_wait_for_the_thread(monkeypatch):
    async def scenario():
        ran, group = [], MemberGroup([predictor(layers.perceptron(seed)) for seed in range(2)])
        group.on_running = lambda place: ran.append((place, threading.current_thread())) if place >= 0 else None
        inside, here = InsideThread(group), threading.current_thread()
        took = inside._short.took
        monkeypatch.setattr(inside._short, "took", lambda calls, seconds: None)  # on a busy machine any may be long
        inside.start()

        async def threads_of(calls):
            ran.clear()
            answers, told = {}, asyncio.Event()

            def take(messages):
                answers.update({message.call_id: message for message in messages})
                if len(answers) == len(calls):
                    told.set()

            inside.ask(calls, take)
            await asyncio.wait_for(told.wait(), 20)
            return {thread for _, thread in ran}

        assert inside.answer(calls_of(3, members=2)) is None
        assert await threads_of(calls_of(3, members=2)) == {inside}
        took(calls_of(3, members=2), 0.0)
        assert await threads_of(calls_of(3, members=2)) == {here}
        took(calls_of(3, members=2), 1.0)
        assert await threads_of(calls_of(3, members=2)) == {inside}
        assert inside.stalled_s() == 0
        inside.stop()
        inside.join(5)

    asyncio.run(scenario())


def ensemble(**member):
    members = {f"m{n}": {"model": "layers:perceptron", "config": {"seed": n}, "inputs": ["x"]} for n in range(3)}
    members["m2"] |= member
    return {
        "name": "short",
        "inputs": {"x": {"datatype": "FP32", "shape": [4]}},
        "classes": ["a", "b", "c"],
        "members": members,
        "fusion": {"rule": "mean", "deadline_s": 20.0, "quorum": 1},
    }


def told(answer):
    missing = dict(answer.members_missing), dict(answer.rows_missing)
    outputs = {name: values.tobytes() for name, values in answer.explanation.outputs.items()}
    return answer.values.tobytes(), answer.coverage.tobytes(), answer.members_used, missing, outputs


def counted(engine):
    """What is counted but for times."""
    lines = engine.metrics.text().decode().splitlines()
    names = ("quorate_requests_total", "quorate_member_replies_total", "quorate_member_failed_rows_total")
    return [line for line in lines if line.startswith(names)]


def answers_of(spec, placement):
    rng = np.random.default_rng(0)
    rows = [rng.integers(-4, 5, (count, 4)).astype(np.float32) for count in (1, 1, 1, 3, 3, 3, 64, 64, 64)]
    rows[2][0, 1] = np.nan  # which the models make a row of NaN of
    rows[5][1] = np.inf

    async def scenario():
        async with running(spec, placement) as engine:
            found = []
            for number, x in enumerate(rows * 3):
                members = ("m0", "m2") if number % 4 == 3 else None
                try:
                    found.append(told(await engine.infer({"x": x}, explain=True, members=members)))
                except Exception as error:
                    found.append(repr(error))
            return found, counted(engine)

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    "member", [{}, {"output": "probabilities"}, {"classes": ["c", "a", "b"]}, {"config": {"seed": 2, "hidden": 8}}]
)
def test_on_the_event_loop_no_bit_and_no_count_is_another(member):
    spec = ensemble(**member)
    apart, inside = answers_of(spec, "apart"), answers_of(spec, "inside")
    assert inside == apart
