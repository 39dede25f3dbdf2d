"""Pictures for models of images, encoded and as pixels."""

import io

import numpy as np

from quorate.deployments.wire.datatypes import bytes_array


def pixels(count, height=40, width=52, seed=0):
    """(count, height, width, 3) UINT8, smooth enough that JPEG keeps it."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, height // 4, width // 4, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def encoded(images, format="PNG"):
    """(count,) BYTES."""
    from PIL import Image

    def one(image):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format)
        return buffer.getvalue()

    return bytes_array([one(image) for image in images])
