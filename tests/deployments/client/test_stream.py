"""Many rows through either client: in order, few at a time, an error in the place of the rows that it is about."""

import asyncio
import itertools

import numpy as np
import pandas as pd
import pytest

from quorate import AsyncClient, Client
from quorate.deployments.client.row_batches import row_batches
from quorate.deployments.errors import RequestError

ROWS = np.random.default_rng(4).normal(size=(100, 2)).astype(np.float32)


def streamed(url, kind, rows, **options):
    if kind is Client:
        with Client(url, model="pair") as client:
            return list(client.stream(rows, **options))

    async def on_a_loop():
        async with AsyncClient(url, model="pair") as client:
            return [answer async for answer in client.stream(rows, **options)]

    return asyncio.run(on_a_loop())


def fused(answers):
    return np.concatenate([answer.outputs["fused"] for answer in answers])


SOURCES = {
    "arrays": lambda: {"x": ROWS},
    "lists": lambda: {"x": ROWS.tolist()},
    "frame": lambda: pd.DataFrame({"x": list(ROWS), "other": 0}),
    "mappings": lambda: ({"x": row.tolist()} for row in ROWS),
    "values": lambda: iter(ROWS),
}


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("source", SOURCES)
def test_rows_of_any_source_are_answered_in_their_order(pair, kind, source):
    with Client(pair.http, model="pair") as client:
        whole = client.infer(x=ROWS).outputs["fused"]
    answers = streamed(pair.http, kind, SOURCES[source](), batch_rows=7, ahead=3, members="a,b")
    assert [len(answer.outputs["fused"]) for answer in answers] == [7] * 14 + [2]
    np.testing.assert_array_equal(fused(answers), whole)


def test_an_endless_source_is_drawn_from_only_as_far_as_answers_are_taken(pair):
    drawn = itertools.count()
    rows = (ROWS[next(drawn) % len(ROWS)] for _ in itertools.repeat(0))
    with Client(pair.http, model="pair") as client:
        stream = client.stream(rows, batch_rows=5, ahead=3)
        for _ in range(4):
            next(stream)
        stream.close()
    assert next(drawn) == 5 * (4 + 3 - 1)


def test_what_is_wrong_with_a_row_is_raised_in_its_place(pair):
    rows = [*ROWS[:20].tolist(), [1.0, 2.0, 3.0], *ROWS.tolist()]
    with Client(pair.http, model="pair") as client:
        stream = client.stream(rows, batch_rows=5, ahead=2)
        np.testing.assert_array_equal(fused(itertools.islice(stream, 4)), client.infer(x=ROWS[:20]).outputs["fused"])
        with pytest.raises(RequestError, match=r"has shape \[1, 3\]"):
            next(stream)


def test_on_a_loop_it_is_raised_in_its_place_too(pair):
    async def on_a_loop():
        async with AsyncClient(pair.http, model="pair") as client:
            stream = client.stream([*ROWS[:4], [1.0]], batch_rows=2, ahead=2)
            before = [await anext(stream), await anext(stream)]
            with pytest.raises(RequestError, match="has shape"):
                await anext(stream)
            return before

    assert [len(answer.outputs["fused"]) for answer in asyncio.run(on_a_loop())] == [2, 2]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("text", "rows are a str; give a DataFrame"),
        (3, "rows are a int"),
        ({"x": [1, 2], "y": [1]}, "other numbers of rows \\(x 2, y 1\\)"),
        ([{"x": 1}], "a row has no 'y'; the model reads x, y"),
        ([1.0], "a row is a float; give a mapping of x, y"),
    ],
)
def test_rows_that_are_none_are_refused_in_words(rows, sentence):
    with pytest.raises(RequestError, match=sentence):
        list(row_batches(rows, 4, ["x", "y"]))
