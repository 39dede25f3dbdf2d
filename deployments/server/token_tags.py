"""What tagging adds to fused probabilities: the tag of each token, and the spans that tags say."""

# B rows, T tokens, C classes

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from quorate.deployments.memory_budget import MemoryHold
from quorate.deployments.server.heavy_work import HeavyWork
from quorate.deployments.spec.checks.check_task import SPANS, TAGS
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.wire.datatypes import bytes_array
from quorate.deployments.wire.inference import InferRequest
from quorate.fusion.sequences.decoding import PADDING, decode
from quorate.fusion.sequences.tags import TagScheme, tag_scheme

Array = NDArray[Any]
# What decoding a token keeps beside its probabilities, and what its tag takes as text with Python's object around it.
_BYTES_PER_CLASS, _BYTES_PER_TOKEN = 16, 100


async def with_tags(
    outputs: dict[str, Array], request: InferRequest, spec: EnsembleSpec, heavy: HeavyWork, hold: MemoryHold
) -> dict[str, Array]:
    """Tags, and spans, beside the fused output; those that were asked for.

    Args:
        heavy, hold: where it is done, and what the request takes of the budget.
    """
    wanted = request.outputs or None
    (values,) = outputs.values()
    if wanted is None or set(wanted) - set(outputs):
        size = tagged_bytes(values)
        hold.add(size)
        lengths = None if spec.lengths is None else request.inputs[spec.lengths]
        outputs |= await heavy.run(size, partial(tagged, values, lengths, spec))
    return outputs if wanted is None else {name: array for name, array in outputs.items() if name in wanted}


def tagged(values: Array, lengths: Array | None, spec: EnsembleSpec) -> dict[str, Array]:
    """The outputs beside the fused one.

    Args:
        values: (B, T, C) fused probabilities.
        lengths: (B,) or (B, 1) tokens of each row; None where all have T.

    Returns:
        ``tags``, (B, T) names of classes as UTF-8, empty behind a row's last token, no I-x but behind B-x or I-x where
        the classes say spans; and for tagging ``spans``, (B,) JSON: of each span its first token, the one behind its
        last, its class and its score, the least probability of its tags.
    """
    scheme = tag_scheme(spec.classes or ()) if spec.task == "tagging" else None
    tags = decode(values, None if lengths is None else lengths.reshape(-1), scheme)
    names = [name.encode() for name in spec.classes or ()] + [b""]  # PADDING is the last
    found = {TAGS: bytes_array([names[tag] for tag in tags.ravel().tolist()]).reshape(tags.shape)}
    if scheme is not None:
        found[SPANS] = bytes_array(_spans(values, tags, scheme))
    return found


def tagged_bytes(values: Array) -> int:
    """About what ``tagged`` takes for its work and its answer."""
    return int(values.size * _BYTES_PER_CLASS + values.size // values.shape[2] * _BYTES_PER_TOKEN)


def _spans(values: Array, tags: NDArray[np.int64], scheme: TagScheme) -> list[bytes]:
    """Of each row, as JSON."""
    rows, length = tags.shape
    first = np.zeros(tags.shape, dtype=np.bool_)
    first[:, 0] = True
    said = np.take_along_axis(values, np.where(tags == PADDING, 0, tags)[..., None], axis=2).ravel()
    found: list[list[dict[str, Any]]] = [[] for _ in range(rows)]
    spans = scheme.spans(tags.ravel(), first.ravel())
    for start, end, kind in zip(*(column.tolist() for column in spans), strict=True):
        row, at = divmod(start, length)
        score = round(float(said[start:end].min()), 6)
        found[row].append({"start": at, "end": at + end - start, "class": scheme.kinds[kind], "score": score})
    return [orjson.dumps(one) for one in found]
