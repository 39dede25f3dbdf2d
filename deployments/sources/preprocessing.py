"""The steps of ``preprocess`` before a model, a batch at a time, where the model runs: in serving and tuning alike."""

# B rows, H height, W width, C channels, K categories

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.sources.content.pictures import pictures
from quorate.deployments.sources.content.row_errors import each_row, one_a_row
from quorate.deployments.sources.content.texts import text, texts
from quorate.deployments.sources.content.tokenizing import model_max_length, padded, tokenizer_of
from quorate.deployments.spec.fields.preprocess import ImageStep, PreprocessSpec, StandardiseStep

if TYPE_CHECKING:
    from PIL.Image import Image

Array = NDArray[Any]

# What models of transformers take, in the order of their arguments.
_OF_TOKENIZERS = ("input_ids", "attention_mask", "token_type_ids")


class Preprocessing:
    """All steps of a member.

    Args:
        inputs: the member's.
        steps: by input.
        folder: what the paths of tokenizers start from.
        called: what the model calls inputs, where that is not their name.

    Attributes:
        names: of the arrays that the model gets: an input's own, or of a tokenizer's several in its place.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        steps: Mapping[str, PreprocessSpec],
        folder: Path,
        called: Mapping[str, str] | None = None,
    ):
        self._inputs, self._called = tuple(inputs), dict(called or {})
        self._steps = {name: _step(name, step, folder) for name, step in steps.items()}
        self.names = tuple(made for name in inputs for made in self._made(name))

    def _made(self, name: str) -> tuple[str, ...]:
        """What the model gets of an input: its own, or what a tokenizer makes of it, by the tokenizer's names."""
        return (self._steps[name].names if name in self._steps else ()) or (self._called.get(name, name),)

    def serves(self, wanted: Collection[str]) -> bool:
        """Whether a model that reads these names gets them all; the member may read more (``inputs: [all]``)."""
        return set(wanted) <= set(self.names)

    def __call__(self, inputs: Mapping[str, Array]) -> list[Array]:
        """The arrays of these names.

        Args:
            inputs: (B, *shape) each.

        Raises:
            BadRowsError: naming the rows that a step cannot read.
        """
        if not self._steps:
            return [inputs[name] for name in self._inputs]
        made = (self._steps[n].run(inputs[n]) if n in self._steps else (inputs[n],) for n in self._inputs)
        return [array for arrays in made for array in arrays]


class _Step(NamedTuple):
    """What is made of one input, and the names of that where it is not the input's."""

    names: tuple[str, ...]
    run: Callable[[Array], Sequence[Array]]


def _step(name: str, spec: PreprocessSpec, folder: Path) -> _Step:
    if spec.tokenizer is not None:
        return _tokenizing(folder / spec.tokenizer, spec.max_length)
    image, standardise = spec.image, spec.standardise
    if image is not None:
        return _Step((), lambda array: (_tensors(array, image),))
    if standardise is not None:
        return _Step((), lambda array: (_standardised(array, standardise),))
    known = spec.one_hot or spec.categories or ()
    places = {category: place for place, category in enumerate(known)}
    if spec.one_hot is None:
        return _Step((), lambda array: (_places(name, array, places),))
    rows = np.eye(len(known), dtype=np.float32)
    return _Step((), lambda array: (rows[_places(name, array, places)],))


def _tokenizing(folder: Path, max_length: int | None) -> _Step:
    tokenizer = tokenizer_of(folder)
    length = max_length or model_max_length(tokenizer)
    names = tuple(name for name in _OF_TOKENIZERS if name in tokenizer.model_input_names)

    def run(array: Array) -> list[Array]:
        encoded = padded(tokenizer, length, texts(array))
        return [encoded[name].numpy() for name in names]

    return _Step(names, run)


def _tensors(array: Array, step: ImageStep) -> NDArray[np.float32]:
    """(B, C, H, W) or (B, H, W, C)."""
    mode = "L" if len(step.mean) == 1 else "RGB"
    shown = [_cropped(_resized(picture, step), step) for picture in pictures(array, mode)]
    rows = np.stack([np.asarray(picture, np.float32).reshape(picture.height, picture.width, -1) for picture in shown])
    mean, std = np.array(step.mean, np.float32), np.array(step.std, np.float32)
    rows = (rows / np.float32(255) - mean) / std
    return np.ascontiguousarray(rows.transpose(0, 3, 1, 2)) if step.layout == "CHW" else rows


def _resized(picture: Image, step: ImageStep) -> Image:
    from PIL.Image import Resampling

    if step.resize is None:
        return picture
    width, height = picture.size
    if isinstance(step.resize, tuple):
        height, width = step.resize
    else:
        short = min(picture.size)
        height, width = (int(step.resize * side / short) for side in (height, width))
    return picture.resize((width, height), Resampling[step.interpolation.upper()])


def _cropped(picture: Image, step: ImageStep) -> Image:
    if step.crop is None:
        return picture
    height, width = step.crop if isinstance(step.crop, tuple) else (step.crop, step.crop)
    left, top = _margin(picture.width, width), _margin(picture.height, height)
    return picture.crop((left, top, left + width, top + height))


def _margin(size: int, wanted: int) -> int:
    """What is cut off before the middle; below 0 what is added."""
    return round((size - wanted) / 2) if size >= wanted else -((wanted - size) // 2)


def _standardised(array: Array, step: StandardiseStep) -> NDArray[np.float32]:
    values: NDArray[np.float64] = (array.astype(np.float64) - np.array(step.mean)) / np.array(step.std)
    return values.astype(np.float32)


def _places(name: str, array: Array, places: Mapping[str, int]) -> NDArray[np.int64]:
    """(B,) the number of each row's category."""

    def place(value: Any) -> int:
        category = text(value) if isinstance(value, bytes | str) else str(value)
        if category not in places:
            raise ValueError(f"'{category:.60}' is no category of {name}")
        return places[category]

    return np.array(each_row(place, one_a_row(array)), np.int64)
