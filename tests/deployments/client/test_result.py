"""What an answer looks like: the likeliest class where a row is shares, its numbers where it is values."""

import numpy as np

from quorate.deployments.client.result import Result


def shown(values, classes=()):
    (table,) = Result({"fused": np.array(values, dtype=np.float32)}, {}, classes).tables()
    return [row[1:] for row in table.rows]


def test_shares_show_the_likeliest_class():
    assert shown([[0.1, 0.7, 0.2]]) == [("1", "0.7000")]
    assert shown([[0.1, 0.7, 0.2]], ("a", "b", "c")) == [("b", "0.7000")]


def test_values_and_quantiles_show_their_numbers():
    assert shown([[99.5, 160.25, 281.0], [-1.0, 0.5, 1.5]]) == [
        ("", "99.5000 160.2500 281.0000"),
        ("", "-1.0000 0.5000 1.5000"),
    ]
    assert shown([[2.5]]) == [("", "2.5000")]
    assert shown([np.arange(10.0)]) == [("", " ".join(f"{n}.0000" for n in range(8)) + " ...")]
