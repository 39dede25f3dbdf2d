"""Pictures as they arrive, encoded or as pixels, as Pillow's images."""

# B rows, H height, W width, C channels

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.sources.content.base64_text import from_base64
from quorate.deployments.sources.content.row_errors import each_row, one_a_row

if TYPE_CHECKING:
    from PIL.Image import Image

# Read by Pillow's own code, in this process: formats that start other programs, or none but old ones use, are not.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM")
# A file of some kilobytes may say that it holds any number of them.
MAX_PIXELS = 1 << 26


def is_ready(array: NDArray[Any]) -> bool:
    """Whether rows are tensors for the model, and no pictures."""
    return array.dtype.kind not in "Ou"


def mode_of(channels: int) -> str:
    """Pillow's mode for a model of so many channels."""
    return "L" if channels == 1 else "RGB"


def pictures(array: NDArray[Any], mode: str) -> list[Image]:
    """A picture for each row.

    Args:
        array: (B,) or (B, 1) BYTES, encoded; or (B, H, W) or (B, H, W, C) UINT8.
        mode: RGB, or L for grey.

    Raises:
        BadRowsError: naming the rows that cannot be decoded.
    """
    if array.dtype == object:
        return each_row(lambda content: decoded(content, mode), one_a_row(array))
    return each_row(lambda pixels: of_pixels(pixels, mode), array)


def decoded(content: Any, mode: str) -> Image:
    """An encoded picture, or one as base64 since JSON has no bytes, turned as its camera says.

    Raises:
        ValueError: it cannot be decoded, or is too large.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not isinstance(content, bytes):
        raise ValueError(f"a picture has to be BYTES, and not {type(content).__name__}")
    try:
        image = Image.open(io.BytesIO(from_base64(content)), formats=FORMATS)
        if image.width * image.height <= MAX_PIXELS:
            return ImageOps.exif_transpose(image).convert(mode)
    except UnidentifiedImageError:
        found = f"{len(content)} bytes are no picture of a format that is read"
        raise ValueError(f"{found}: {', '.join(FORMATS)}") from None
    except Exception as error:  # its readers raise whatever a broken file makes them raise
        raise ValueError(f"a picture cannot be decoded: {error}") from None
    raise ValueError(f"a picture of {image.width} x {image.height} pixels; at most {MAX_PIXELS} are read")


def of_pixels(pixels: NDArray[np.uint8], mode: str) -> Image:
    """A picture of (H, W) or (H, W, C) pixels.

    Raises:
        ValueError: they have another number of dimensions or of channels.
    """
    from PIL import Image

    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4))):
        raise ValueError(f"pixels are UINT8 of shape: [height, width, 3], not {pixels.dtype} {list(pixels.shape)}")
    flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    return Image.fromarray(np.ascontiguousarray(flat)).convert(mode)
