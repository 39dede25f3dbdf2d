"""What every wire checks of a request's tensors."""

import pytest

from quorate.deployments.errors import RequestError
from quorate.deployments.wire.tensor_checks import (
    MAX_DIMS,
    check_count,
    check_once,
    out_of_range,
    parse_datatype,
    parse_shape,
)


def test_what_the_protocol_allows_passes():
    assert parse_datatype("x", "BF16") == "BF16"
    assert parse_shape("x", [0, 3]) == (0, 3)
    assert parse_shape("x", []) == ()
    check_count("x", 6, (2, 3))
    check_once("x", {"y"})


@pytest.mark.parametrize("datatype", ["FLOAT", "fp32", "", None, 3, ["FP32"]])
def test_an_unknown_datatype_is_refused_with_those_that_are_known(datatype):
    with pytest.raises(RequestError, match=r"input 'x' has datatype .*; use one of BOOL, UINT8"):
        parse_datatype("x", datatype)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (None, "has no shape"),
        ("12", "has no shape"),
        ([1.0], "has no shape"),
        ([True], "has no shape"),
        ([1] * (MAX_DIMS + 1), "has no shape"),
        ([2, -1], "sizes cannot be negative"),
        ([2**30, 2**30], "too large"),
    ],
)
def test_a_shape_that_is_none_is_refused(shape, message):
    with pytest.raises(RequestError, match=f"input 'x' .*{message}"):
        parse_shape("x", shape)


def test_errors_name_the_input_and_what_to_do():
    with pytest.raises(RequestError, match="input 'x' is given twice; give it once"):
        check_once("x", {"x"})
    with pytest.raises(RequestError, match=r"input 'x' has 5 elements but shape \[2, 3\] needs 6"):
        check_count("x", 5, (2, 3))
    assert "give 0 to 255" in str(out_of_range("x", "UINT8"))
    assert "give finite numbers" in str(out_of_range("x", "BF16"))
