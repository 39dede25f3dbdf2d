"""Samples of sound, made ready by the model's own feature extractor."""

# B rows, S samples

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.sources.content.sounds import sounds
from quorate.deployments.sources.huggingface.batch import Batch
from quorate.deployments.spec.model_files.huggingface_folder import FolderSettings


class SoundReader:
    """Mono sound at the rate that the model was trained at, which ``preprocessor_config.json`` says."""

    def __init__(self, path: Path, model: Any, settings: FolderSettings):
        from transformers import AutoFeatureExtractor

        self._extractor = AutoFeatureExtractor.from_pretrained(path, local_files_only=True, trust_remote_code=False)

    def __call__(self, *arrays: NDArray[Any]) -> list[Batch]:
        """Batches of sounds of one length: no answer depends on what it was padded to.

        Args:
            arrays: one of (B,) BYTES, .wav files; or of (B, S), full scale from -1 to 1.

        Raises:
            BadRowsError: naming the rows that are no such sound.
        """
        if len(arrays) == 1 and arrays[0].dtype == object:
            rows = sounds(arrays[0], self._extractor.sampling_rate)
        elif len(arrays) == 1 and arrays[0].ndim == 2:
            rows = list(arrays[0].astype(np.float32))
        else:
            raise ValueError("an audio model reads one input: BYTES of .wav files, or datatype: FP32, shape: [-1]")
        return [self._batch(list(alike)) for _, alike in groupby(rows, len)]

    def _batch(self, rows: list[NDArray[np.float32]]) -> Batch:
        rate = self._extractor.sampling_rate
        return Batch(dict(self._extractor(rows, sampling_rate=rate, padding=True, return_tensors="pt")))
