"""A member that is late for one of several outputs, clients that hang up, and many requests at once."""

import asyncio

import numpy as np
import pytest

from quorate.deployments import AsyncClient, Client
from quorate.deployments.errors import DeadlineError, UnavailableError
from tests.deployments.support.desk import ROWS, expected
from tests.deployments.support.waiting import until


def test_a_late_member_costs_its_own_outputs_and_no_other(client, switch):
    """topic answers without it at its own deadline, and mood does not wait for that."""
    client.infer(x=ROWS)  # all are there
    switch.write_text("hold")
    try:
        answer = client.infer(x=ROWS)
        assert list(answer.outputs) == ["mood", "topic", "score"]
        assert answer.parameters["outputs_missing"] == "only:deadline"
        assert answer.parameters["degraded"] is True
        said = {name: answer[name].parameters for name in answer.outputs}
        assert [said[name]["degraded"] for name in said] == [False, True, False]
        assert said["topic"]["members_missing"] == "late:deadline"
        for name, result in said.items():
            np.testing.assert_allclose(answer.outputs[name], expected(name, result), rtol=1e-5)
        with pytest.raises(DeadlineError):
            client.infer(x=ROWS, outputs=["mood", "only"])
        assert client.infer(x=ROWS, outputs=["mood"]).parameters["degraded"] is False
    finally:
        switch.write_text("0")
        until(lambda: not client.infer(x=ROWS).parameters["degraded"])


def test_clients_that_hang_up_leave_nothing_behind(desk, switch):
    switch.write_text("hold")

    async def hang_up():
        async with AsyncClient(desk.http, model="desk") as client:
            calls = [asyncio.ensure_future(client.infer(x=ROWS)) for _ in range(30)]
            await asyncio.wait(calls, timeout=0.2)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    try:
        asyncio.run(hang_up())
        until(lambda: not desk.engine._open)
        until(lambda: desk.service.budget.held_bytes == 0)
    finally:
        switch.write_text("0")
    with Client(desk.http, model="desk") as client:
        until(lambda: not client.infer(x=ROWS).parameters["degraded"])
    until(lambda: desk.engine.unanswered_batches == 0)


def test_among_many_requests_each_output_is_the_fusion_of_those_it_names(desk, switch):
    """Requests of other rows, outputs, members and deadlines at once, while one member is now and then late."""
    rng, asked = np.random.default_rng(9), 300
    rows = rng.normal(size=(asked, 2, 2)).astype(np.float32)
    wanted = [rng.permutation(["mood", "topic", "score"])[: 1 + number % 3].tolist() for number in range(asked)]

    async def ask(client, number):
        await asyncio.sleep(number / 300)
        if number % 60 == 30:
            switch.write_text("0.2" if number % 120 == 30 else "0")
        deadline = {"deadline_ms": 50} if number % 7 == 0 else {}
        return await client.infer(x=rows[number], outputs=wanted[number], **deadline)

    async def all_of_them():
        async with AsyncClient(desk.http, model="desk") as client:
            return await asyncio.gather(*(ask(client, number) for number in range(asked)), return_exceptions=True)

    try:
        answers = asyncio.run(all_of_them())
    finally:
        switch.write_text("0")
        with Client(desk.http, model="desk") as client:  # what it was asked is over
            until(lambda: not client.infer(x=ROWS).parameters["degraded"])
    degraded = 0
    for number, answer in enumerate(answers):
        if isinstance(answer, DeadlineError | UnavailableError):
            continue
        assert list(answer.outputs) == wanted[number]
        for name in answer.outputs:
            said = answer[name].parameters
            degraded += said["degraded"]
            np.testing.assert_allclose(answer.outputs[name], expected(name, said, rows[number]), rtol=1e-4, atol=1e-6)
    assert sum(isinstance(answer, Exception) for answer in answers) < asked / 10
    assert degraded
