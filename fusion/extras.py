"""Optional parts of the package: which module belongs to which extra, and the sentence where one is missing.

The bare package is the client, the spec and the names of the fusion rules; the rest is installed by
``pip install 'quorate[serve]'`` and so on, as pyproject.toml lists it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import lazy_loader

from quorate.fusion.errors import MissingExtraError

# The modules by which each extra is known to be there. Where several extras bring one, the smallest stands first.
EXTRAS: dict[str, tuple[str, ...]] = {
    "arrow": ("pyarrow",),
    "serve": (
        "ray", "torch", "scipy", "safetensors", "grpc", "grpc_health", "grpc_reflection", "google.protobuf",
        "prometheus_client", "cryptography", "uvicorn", "uvloop", "httptools", "h2", "hyperframe", "psutil",
    ),
    "tune": ("sklearn", "optuna", "cmaes", "pandas", "tensorboardX", "threadpoolctl"),
    "report": ("matplotlib",),
    "onnx": ("onnxruntime",),
    "hf": ("transformers", "tokenizers", "peft"),
    "images": ("timm", "torchvision", "PIL"),
    "otel": ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.grpc"),
    "int8": ("torchao",),
    "sklearn": ("skops",),
    "xgboost": ("xgboost",),
    "lightgbm": ("lightgbm",),
    "catboost": ("catboost",),
    "mlflow": ("mlflow",),
    "autogluon": ("autogluon",),
}  # fmt: skip
_NEEDS = {"serve": ("arrow", "serve"), "tune": ("arrow", "serve", "tune")}


def require(extra: str, why: str) -> None:
    """Refuse at once, and before anything is started, what an extra is missing for.

    Raises:
        MissingExtraError: with the command that installs it.
    """
    for part in _NEEDS.get(extra, (extra,)):
        for module in lacking(part):
            raise MissingExtraError(why, module, extra)


def lacking(extra: str) -> list[str]:
    """The modules of an extra that are not installed, without those of others that it brings."""
    return [module for module in EXTRAS[extra] if not _installed(module)]


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """The sentence for a module that could not be imported; None where no extra brings it."""
    missing = error.name or ""
    for extra, modules in EXTRAS.items():
        # A namespace such as google may be missing as a whole.
        if any(f"{missing}.".startswith(f"{module}.") or module.startswith(f"{missing}.") for module in modules):
            return MissingExtraError("this", missing, extra)
    return None


def attach_stub(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``lazy_loader.attach_stub``: names load on first use, from where the stub beside the file says.

    A type checker reads the same stub. A name that needs an extra which is not installed raises MissingExtraError.
    """
    load, directory, names = lazy_loader.attach_stub(package, file)

    def load_or_say(name: str) -> Any:
        try:
            return load(name)
        except ModuleNotFoundError as error:
            found = missing_extra(error)
            if found is None:
                raise
            raise MissingExtraError(f"{package}.{name}", found.module, found.extra) from None

    return load_or_say, directory, names


def _installed(module: str) -> bool:
    """Whether a module can be found; nothing is imported for it but its parents."""
    if module in sys.modules:
        return sys.modules[module] is not None
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
