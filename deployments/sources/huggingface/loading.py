"""Members ``hf:FOLDER``: which kind of model a folder holds, and the model itself, from safetensors alone."""

from __future__ import annotations

import os
import sys
from typing import Any

import torch

from quorate.deployments.errors import MemberLoadError, SpecError
from quorate.deployments.sources.huggingface.adapters import adapter_task, trained_modules, with_adapter
from quorate.deployments.sources.huggingface.batch import Reader
from quorate.deployments.sources.huggingface.forward import Forward
from quorate.deployments.sources.huggingface.images import ImageReader
from quorate.deployments.sources.huggingface.sounds import SoundReader
from quorate.deployments.sources.huggingface.texts import TextReader
from quorate.deployments.sources.huggingface.words import WordReader
from quorate.deployments.sources.model import Model
from quorate.deployments.sources.request import LoadRequest
from quorate.deployments.spec.model_files.huggingface_folder import (
    FolderSettings,
    check_folder,
    folder_settings,
    label_names,
)

Kind = tuple[type[Reader], str]
# Who reads the rows of a task, and the class of transformers that loads its models; by the task's name there.
_TASKS: dict[str, Kind] = {
    "SEQUENCE_CLASSIFICATION": (TextReader, "AutoModelForSequenceClassification"),
    "TOKEN_CLASSIFICATION": (WordReader, "AutoModelForTokenClassification"),
    "IMAGE_CLASSIFICATION": (ImageReader, "AutoModelForImageClassification"),
    "AUDIO_CLASSIFICATION": (SoundReader, "AutoModelForAudioClassification"),
}
# The same by the names of PEFT, for adapters that bring the head of a base that has none.
_OF_ADAPTERS = {"SEQ_CLS": "SEQUENCE_CLASSIFICATION", "TOKEN_CLS": "TOKEN_CLASSIFICATION"}

# Files of the folder, and no code of it: without a word transformers asks whoever sits at the terminal.
_NOTHING_ELSE = {"local_files_only": True, "trust_remote_code": False}


def load(request: LoadRequest) -> Model:
    """Load model and processor of a folder; nothing is fetched or unpickled, and no code of the folder's is run."""
    settings = _settings(request)
    _import_transformers(request)
    try:
        reader, model, pooled = _loaded(request, settings)
    except MemberLoadError:
        raise
    except Exception as error:  # transformers raises whatever a folder makes its readers raise
        found = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise request.error(f"{request.path.name} cannot be loaded: {found}", "save it with save_pretrained") from error
    names = label_names(model.config.to_dict())
    function = Forward(reader, model, request.spec.output, pooled)
    return request.model(function, tensors=False, classes=tuple(names) if names else None)


def _loaded(request: LoadRequest, settings: FolderSettings) -> tuple[Reader, Any, bool]:
    """Who reads its rows, the model, and whether it pools features."""
    reader, loader = _kind(request, settings)
    model, missing = _model(request, loader, settings)
    model = model.to(request.device).eval()
    # A pooler that was never trained would be of random numbers.
    pooled = not any("pooler" in name.split(".") for name in missing)
    return reader(request.path, model, settings), model, pooled


def _settings(request: LoadRequest) -> FolderSettings:
    field, config = f"members.{request.name}", dict(request.spec.config)
    try:
        check_folder(field, request.path, config, request.folder)
        return folder_settings(f"{field}.config", config)
    except SpecError as error:
        raise request.error(error.found, error.fix) from None


def _import_transformers(request: LoadRequest) -> None:
    """Import it so that it asks nobody, prints nothing, and keeps to the threads of the member."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("RAYON_NUM_THREADS", str(torch.get_num_threads()))  # of its tokenizers
    try:
        import torchvision  # noqa: F401
    except Exception:
        # One built for another torch fails here, and transformers would then import no model, of text neither.
        sys.modules["torchvision"] = None  # type: ignore[assignment]
    try:
        import transformers
    except ImportError:
        raise request.error("transformers is not installed", "pip install 'quorate[hf]'") from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def _kind(request: LoadRequest, settings: FolderSettings) -> Kind:
    from transformers import AutoConfig
    from transformers.models.auto import modeling_auto

    if request.spec.output == "features":
        return _reader_of(request), "AutoModel"
    config = AutoConfig.from_pretrained(request.path, **_NOTHING_ELSE)
    architecture = (config.architectures or ["model without an architecture"])[0]
    for task, kind in _TASKS.items():
        named = getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES").get(config.model_type, ())
        if architecture in ((named,) if isinstance(named, str) else named):
            return kind
    task = _OF_ADAPTERS.get(adapter_task(request.folder / settings.adapter), "") if settings.adapter else ""
    if task and request.spec.classes is None:
        found = f"the adapter brings the head, and {request.path.name} does not say for how many classes"
        raise request.error(found, "name the member's classes, in the order of its outputs")
    if task:
        return _TASKS[task]
    fix = "give a model for sequence, token, image or audio classification, or write output: features"
    raise request.error(f"{request.path.name} holds a {architecture}, which classifies nothing", fix)


def _reader_of(request: LoadRequest) -> type[Reader]:
    """Who reads rows for a model without a head, by what it was saved with."""
    from transformers.image_processing_utils import ImageProcessingMixin

    if any((request.path / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt")):
        return TextReader
    saved, _ = ImageProcessingMixin.get_image_processor_dict(request.path, local_files_only=True)
    return SoundReader if "feature_extractor_type" in saved else ImageReader


def _model(request: LoadRequest, loader: str, settings: FolderSettings) -> tuple[Any, set[str]]:
    """The model, and the weights that its files do not have."""
    import transformers

    options: dict[str, Any] = {**_NOTHING_ELSE, "use_safetensors": True, "output_loading_info": True}
    if settings.dtype:
        options["dtype"] = getattr(torch, settings.dtype)
    if settings.adapter and request.spec.classes:
        options["num_labels"] = len(request.spec.classes)
    model, info = getattr(transformers, loader).from_pretrained(request.path, **options)
    missing = set(info["missing_keys"])
    adapter = request.folder / settings.adapter if settings.adapter else None
    _check_weights(request, missing, trained_modules(adapter) if adapter else [])
    return (model if adapter is None else with_adapter(model, adapter)), missing


def _check_weights(request: LoadRequest, missing: set[str], brought: list[str]) -> None:
    """Refuse a model that transformers has filled up with random numbers, but for modules that an adapter brings."""
    known = [*brought, "pooler"] if request.spec.output == "features" else brought
    unknown = sorted(name for name in missing if not any(part in known for part in name.split(".")))
    if unknown:
        found = f"{request.path.name} has no weights for {', '.join(unknown[:3])}"
        raise request.error(f"{found}{' and others' if len(unknown) > 3 else ''}", "save the trained model, whole")
