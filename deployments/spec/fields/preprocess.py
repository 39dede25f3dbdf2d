"""What a member does to an input before its model runs: a closed list of steps, one for an input."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=1, le=1 << 14)]
# YAML reads a category such as 3 or 1.5 as a number.
Category = Annotated[str, BeforeValidator(lambda v: str(v) if type(v) in (int, float) else v)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageStep(_Frozen):
    """From pictures, encoded or UINT8 pixels, to float32 tensors, by Pillow's (anti-aliased) resampling.

    Attributes:
        resize: the shorter side, or height and width.
        crop: the middle, a square or height and width; black where the picture is smaller.
        mean: of each channel, where pixels are from 0 to 1; one for grey pictures, three for colours.
        std: the same.
        layout: of the tensors: channels first or last.
    """

    resize: Side | tuple[Side, Side] | None = None
    crop: Side | tuple[Side, Side] | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    mean: tuple[Number, ...] = (0.0, 0.0, 0.0)
    std: tuple[Positive, ...] = (1.0, 1.0, 1.0)
    layout: Literal["CHW", "HWC"] = "CHW"

    @model_validator(mode="after")
    def _channels(self) -> ImageStep:
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            raise ValueError("mean and std must have one number each for grey pictures, or three for colours")
        return self


class StandardiseStep(_Frozen):
    """(x - mean) / std, float32; numbers for all elements, or one for each of the last dimension."""

    mean: Number | tuple[Number, ...]
    std: Positive | tuple[Positive, ...]


class PreprocessSpec(_Frozen):
    """One step for one input.

    Attributes:
        tokenizer: a folder with ``tokenizer.json``: of texts input_ids, attention_mask and what else it makes, INT64.
        max_length: tokens at which a text is cut; what the tokenizer says when left out.
        image: of pictures, tensors.
        standardise: of numbers, such around 0.
        one_hot: the categories, in the order of the columns; a row of another category fails.
        categories: the same, to the number of the category.
    """

    tokenizer: Annotated[str, Field(min_length=1)] | None = None
    max_length: Annotated[int, Field(ge=1)] | None = None
    image: ImageStep | None = None
    standardise: StandardiseStep | None = None
    one_hot: Annotated[tuple[Category, ...], Field(min_length=1)] | None = None
    categories: Annotated[tuple[Category, ...], Field(min_length=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _image_without_settings(cls, data: Any) -> Any:
        """``image:`` alone is an image step of no settings."""
        return {**data, "image": {}} if isinstance(data, dict) and data.get("image", {}) is None else data

    @model_validator(mode="after")
    def _one_step(self) -> PreprocessSpec:
        given = [name for name in STEPS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"it must have one of {', '.join(STEPS)}")
        if self.max_length is not None and self.tokenizer is None:
            raise ValueError("max_length is a tokenizer's")
        return self

    @property
    def step(self) -> str:
        """Which one it is."""
        return next(name for name in STEPS if getattr(self, name) is not None)


STEPS = ("tokenizer", "image", "standardise", "one_hot", "categories")
