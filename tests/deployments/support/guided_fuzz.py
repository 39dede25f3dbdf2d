"""A parser and a fuzzer that goes where code is new: ``python -m tests.deployments.support.guided_fuzz WHAT ...``.

The other words are libFuzzer's: a folder of texts to begin with and to add to, and options. It exits with 0 where no
text made the parser raise anything but a QuorateError, or take long.
"""

import contextlib
import sys
import time

import atheris

with atheris.instrument_imports(include=["quorate"], enable_loader_override=False):
    from quorate.fusion.errors import QuorateError
    from tests.deployments.support.wire_parsers import WIRE

# Processor seconds of one text.
LIMIT_S = 5.0
parse = WIRE[sys.argv.pop(1)].parse


def one_text(data: bytes) -> None:
    began = time.thread_time()
    with contextlib.suppress(QuorateError):
        parse(data)
    assert time.thread_time() - began < LIMIT_S


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_text)
    atheris.Fuzz()
