"""Samples of sound, made ready by the model's own feature extractor."""

# B rows, S samples

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.sources.huggingface.batch import Batch
from quorate.deployments.spec.model_files.huggingface_folder import FolderSettings


class SoundReader:
    """Mono sound at the rate that the model was trained at, which ``preprocessor_config.json`` says."""

    def __init__(self, path: Path, model: Any, settings: FolderSettings):
        from transformers import AutoFeatureExtractor

        self._extractor = AutoFeatureExtractor.from_pretrained(path, local_files_only=True, trust_remote_code=False)

    def __call__(self, *arrays: NDArray[Any]) -> list[Batch]:
        """One batch of sounds.

        Args:
            arrays: one of (B, S), full scale from -1 to 1.
        """
        if len(arrays) != 1 or arrays[0].ndim != 2:
            raise ValueError("an audio model reads one input of samples: datatype: FP32, shape: [-1]")
        rows = list(arrays[0].astype(np.float32))
        rate = self._extractor.sampling_rate
        return [Batch(dict(self._extractor(rows, sampling_rate=rate, padding=True, return_tensors="pt")))]
