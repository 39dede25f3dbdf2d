"""Pictures that strangers send: decoded as they are meant, and a row's error whatever else they are."""

import base64
import contextlib
import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from quorate.deployments.sources.content.pictures import FORMATS, MAX_PIXELS, decoded, pictures
from quorate.deployments.sources.content.row_errors import BadRowsError
from tests.deployments.support.encoded_pictures import encoded, pixels

PIXELS = pixels(1)


@pytest.mark.parametrize("format", ["PNG", "BMP", "PPM"])
def test_pixels_come_out_as_they_went_in(format):
    np.testing.assert_array_equal(np.asarray(decoded(encoded(PIXELS, format)[0], "RGB")), PIXELS[0])


def test_a_picture_is_turned_as_its_camera_says():
    sideways = Image.fromarray(PIXELS[0])
    exif = sideways.getexif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    buffer = io.BytesIO()
    sideways.save(buffer, "PNG", exif=exif)
    np.testing.assert_array_equal(np.asarray(decoded(buffer.getvalue(), "RGB")), np.rot90(PIXELS[0], -1))


def test_base64_is_a_picture_too():
    (content,) = encoded(PIXELS)
    np.testing.assert_array_equal(np.asarray(decoded(base64.b64encode(content), "RGB")), PIXELS[0])


def test_a_picture_that_says_it_is_huge_is_not_decoded():
    header = struct.pack(">IIBBBBB", 1 << 13, (1 << 13) + 1, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    with pytest.raises(ValueError, match=f"a picture of 8192 x 8193 pixels; at most {MAX_PIXELS} are read"):
        decoded(b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT", "RGB")


@pytest.mark.parametrize("format", FORMATS)
def test_whatever_is_wrong_with_a_picture_is_its_rows_error(format):
    draw = random.Random(format)
    (whole,) = encoded(PIXELS, format)
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 8)):
            content[draw.randrange(min(len(content), 120))] = draw.randrange(256)
        with contextlib.suppress(BadRowsError):  # some are pictures yet
            pictures(np.array([bytes(content)], dtype=object), "RGB")


def test_all_rows_that_are_wrong_are_named_at_once():
    rows = np.array([encoded(PIXELS)[0], b"", b"text", encoded(PIXELS)[0]], dtype=object)
    with pytest.raises(BadRowsError, match="0 bytes are no picture of a format that is read: JPEG, PNG") as raised:
        pictures(rows, "RGB")
    assert list(raised.value.rows) == [1, 2]
    floats = np.zeros((2, 4, 4, 2), np.uint8)
    with pytest.raises(BadRowsError, match=r"pixels are UINT8 of shape: \[height, width, 3\], not uint8 \[4, 4, 2\]"):
        pictures(floats, "RGB")
