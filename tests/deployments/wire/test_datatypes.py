"""The protocol's datatypes and NumPy's."""

from typing import get_args

import numpy as np
import pytest

from quorate.deployments.spec.fields.types import Datatype
from quorate.deployments.wire.datatypes import (
    BY_CODE,
    CODES,
    bytes_array,
    datatype_of,
    has_name,
    name_of,
    numpy_dtype,
    zeros,
)


def test_a_spec_may_name_every_datatype_of_the_wires_and_no_other():
    assert get_args(Datatype) == BY_CODE


@pytest.mark.parametrize("datatype", CODES)
def test_a_datatype_and_its_dtype_lead_to_each_other(datatype):
    assert name_of(numpy_dtype(datatype)) == datatype
    assert datatype_of(np.empty(0, numpy_dtype(datatype))) == datatype
    assert BY_CODE[CODES[datatype]] == datatype


def test_a_dtype_that_the_protocol_lacks_has_no_name():
    assert not has_name(np.dtype(np.complex64))
    with pytest.raises(KeyError):
        name_of(np.dtype(np.complex64))


def test_byte_strings_keep_their_zeros():
    assert bytes_array([b"a\0", b""]).tolist() == [b"a\0", b""]


def test_an_example_has_ones_for_free_sizes_and_empty_strings_for_bytes():
    assert zeros("FP16", (1, 3), 2).shape == (2, 1, 3)
    assert zeros("BYTES", (2,), 1).tolist() == [[b"", b""]]
