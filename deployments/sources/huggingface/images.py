"""Pictures, made ready by the model's own image processor."""

# B rows, H height, W width, C channels

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from quorate.deployments.sources.content.pictures import is_ready, mode_of, pictures
from quorate.deployments.sources.huggingface.batch import Batch
from quorate.deployments.spec.model_files.huggingface_folder import FolderSettings


class ImageReader:
    """Encoded pictures, pixels, or tensors that are ready."""

    def __init__(self, path: Path, model: Any, settings: FolderSettings):
        from transformers import AutoImageProcessor

        wanted = settings.image_backend
        self._processor = AutoImageProcessor.from_pretrained(
            path, local_files_only=True, trust_remote_code=False, backend=wanted
        )
        if wanted and (wanted == "pil") != type(self._processor).__name__.endswith("Pil"):  # it falls back by itself
            found = f"config.image_backend is {wanted}, and transformers gives a {type(self._processor).__name__}"
            raise ValueError(f"{found}; install what {wanted} needs, or leave it out")
        self._mode = mode_of(getattr(model.config, "num_channels", 3))

    def __call__(self, *arrays: NDArray[Any]) -> list[Batch]:
        """One batch of pictures.

        Args:
            arrays: one of (B,) BYTES; (B, H, W, C) UINT8; or (B, C, H, W) floats, given to the model as they are.
        """
        if len(arrays) != 1:
            raise ValueError(f"{len(arrays)} inputs, but an image model reads one")
        if is_ready(arrays[0]):
            return [Batch({"pixel_values": torch.from_numpy(arrays[0].copy())})]
        return [Batch(dict(self._processor(images=pictures(arrays[0], self._mode), return_tensors="pt")))]
