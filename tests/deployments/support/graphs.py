"""Ensembles of linear members that read the request or each other, and their answers."""

import asyncio
import itertools

import numpy as np

from tests.deployments.support.factories.oracle import NONE
from tests.deployments.support.member_threads import running

_names = (f"graph{number}" for number in itertools.count())

CLASSES = ["one", "two", "three"]
IN = {"row": {"datatype": "INT64", "shape": [3]}}


def member(seed, inputs, output="probabilities", outputs=3, **config):
    config = {"seed": seed, "outputs": outputs, **config}
    return {"model": "graph:linear", "inputs": inputs, "output": output, "config": config}


def spec_of(members, inputs=IN, **rest):
    return {"name": next(_names), "inputs": inputs, "classes": CLASSES, "members": members, **rest}


def rows_of(*commands):
    table = [(number, command, mask) for number, command, mask in commands]
    return {"row": np.array(table, dtype=np.int64)}


def first(inputs):
    """What a member computes with of the request."""
    return inputs["row"][:, :1]


def ask(spec, inputs, placement="apart", **options):
    """The answer of an ensemble that runs for this one question."""

    async def scenario():
        async with running(spec, placement) as engine:
            return await engine.infer(inputs, **options)

    return asyncio.run(scenario())


def ask_all(spec, questions, placement="apart"):
    """The answers to many questions asked at once; errors are returned."""

    async def scenario():
        async with running(spec, placement) as engine:
            return await asyncio.gather(*map(engine.infer, questions), return_exceptions=True)

    return asyncio.run(scenario())


PLAIN = rows_of(*((n, NONE, 0) for n in range(1, 6)))
