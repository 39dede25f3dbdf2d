"""A parser and a fuzzer that goes where code is new: ``python -m tests.deployments.support.guided_fuzz WHAT ...``.

The other words are libFuzzer's: a folder of texts to begin with and to add to, and options. It exits with 0 where no
text made the parser raise anything but a QuorateError.
"""

import contextlib
import sys

import atheris

with atheris.instrument_imports(include=["quorate"], enable_loader_override=False):
    from quorate.fusion.errors import QuorateError
    from tests.deployments.support.wire_parsers import WIRE

parse = WIRE[sys.argv.pop(1)].parse


def one_text(data: bytes) -> None:
    with contextlib.suppress(QuorateError):
        parse(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_text)
    atheris.Fuzz()
