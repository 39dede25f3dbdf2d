"""Which datatypes hold every number of another."""

from __future__ import annotations

_BITS = {"UINT8": 8, "UINT16": 16, "UINT32": 32, "UINT64": 64, "INT8": 7, "INT16": 15, "INT32": 31, "INT64": 63}
_MANTISSA = {"FP16": 11, "BF16": 8, "FP32": 24, "FP64": 53}
_WIDER = {"FP16": ("FP32", "FP64"), "BF16": ("FP32", "FP64"), "FP32": ("FP64",)}


def is_exact(given: str, wanted: str) -> bool:
    """Whether each number of one of the protocol's datatypes is one of another's, too."""
    if given == wanted:
        return True
    if given == "BOOL" or wanted in _WIDER.get(given, ()):
        return wanted in _BITS or wanted in _MANTISSA
    if given not in _BITS or (given.startswith("INT") and wanted.startswith("UINT")):
        return False
    return _BITS[given] <= (_BITS.get(wanted) or _MANTISSA.get(wanted) or 0)
