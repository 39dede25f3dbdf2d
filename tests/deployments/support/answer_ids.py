"""Answers without what each is called, which no two have alike."""

import gzip
import re

_LENGTHS = ("content-length:", "inference-header-content-length:")


def without_id(parameters):
    """An answer's parameters."""
    assert parameters["answer_id"]
    return {name: value for name, value in parameters.items() if name != "answer_id"}


def unnamed(answer):
    """An answer off the wire, head and body; a packed one unpacked."""
    head, body = answer
    if any(line.lower() == "content-encoding: gzip" for line in head):
        body = gzip.decompress(body)
    body, found = re.subn(rb'"answer_id":"[0-9a-f]{12}-\d+[-\d]*"', b'"answer_id":""', body)
    assert found == 1
    return [line for line in head if not line.lower().startswith(_LENGTHS)], body
