"""Text as it arrives, BYTES, as Python's strings."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from quorate.deployments.sources.content.row_errors import each_row, one_a_row


def texts(array: NDArray[Any]) -> list[str]:
    """A text for each row.

    Args:
        array: (B,) or (B, 1) BYTES.

    Raises:
        BadRowsError: naming the rows that are no UTF-8.
    """
    return each_row(text, one_a_row(array))


def text(content: Any) -> str:
    """Of bytes, their text; ValueError where they are no UTF-8."""
    if isinstance(content, str):
        return content
    if not isinstance(content, bytes):
        raise ValueError(f"a text has to be BYTES, and not {type(content).__name__}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"a text is no UTF-8: byte {error.start} of {len(content)} is wrong") from None
