"""How a spec names a member's model: by a file or folder of a known format, or by a factory to import.

A new format is an entry here, and a file in ``deployments/sources`` that ``sources.loading`` lists.
"""

from __future__ import annotations

from dataclasses import dataclass

from quorate.deployments.spec.model_address import address_of
from quorate.deployments.spec.schema import MemberSpec


@dataclass(frozen=True)
class ModelFormat:
    """One way to give a model.

    Attributes:
        scheme: what stands before the colon, such as ``hf`` of ``hf:FOLDER``; empty for what is known by its suffix.
        suffixes: of its files.
        local: whether a file, or a folder, of the spec is named, which is checked, digested, copied and kept.
        folder: whether that is a folder; None where it may be either.
        weights: suffixes of the weights files that it takes beside the model; none where the model holds its own.
        config: whether it takes settings.
        folders: settings that name folders, which are treated as the model's own.
        module: what must be installed for it beside torch.
        needs_weights: whether it would answer at random without a weights file.
        media: whether it reads content: text, encoded pictures, sound; see ``example_content``.
        own_texts: whether it may read text of a few values that only the loaded model knows.
        factories: what follows the scheme's word where that is a package to import a factory from, and no scheme.
    """

    name: str
    scheme: str = ""
    suffixes: tuple[str, ...] = ()
    local: bool = True
    folder: bool | None = False
    weights: tuple[str, ...] = ()
    config: bool = False
    folders: tuple[str, ...] = ()
    module: str = ""
    needs_weights: bool = False
    media: bool = False
    own_texts: bool = False
    factories: tuple[str, ...] = ()


WEIGHTS_SUFFIX = ".safetensors"
TORCH_EXPORT = ModelFormat("torch.export", suffixes=(".pt2",))
ONNX = ModelFormat("ONNX", suffixes=(".onnx",))
# What torch.save writes; read without running what a pickle says.
CHECKPOINTS = (".pt", ".pth", ".ckpt", ".bin")
_WEIGHTS = (WEIGHTS_SUFFIX, *CHECKPOINTS)
TORCHSCRIPT = ModelFormat("TorchScript", suffixes=(".pt", ".pth"))
SKOPS = ModelFormat("skops", suffixes=(".skops",), config=True, module="skops", own_texts=True)
XGBOOST = ModelFormat("XGBoost", suffixes=(".json", ".ubj"), module="xgboost")
LIGHTGBM = ModelFormat("LightGBM", suffixes=(".txt",), module="lightgbm")
CATBOOST = ModelFormat("CatBoost", suffixes=(".cbm",), config=True, module="catboost")
MLFLOW = ModelFormat("MLflow", scheme="mlflow", folder=True, config=True, own_texts=True)
REMOTE = ModelFormat("Open Inference server", local=False, config=True)  # known by its address
AUTOGLUON = ModelFormat("AutoGluon", scheme="autogluon", folder=True, config=True, module="autogluon")
HUGGING_FACE = ModelFormat(
    "Hugging Face", "hf", folder=True, config=True, folders=("adapter",), module="transformers", media=True
)
TIMM = ModelFormat(
    "timm", "timm", local=False, weights=_WEIGHTS, config=True, module="timm", needs_weights=True, media=True,
    factories=("create_model", "models."),
)  # fmt: skip
TORCHVISION = ModelFormat(
    "torchvision", "torchvision", local=False, weights=_WEIGHTS, config=True, module="torchvision",
    needs_weights=True, media=True, factories=("models.",),
)  # fmt: skip
FACTORY = ModelFormat("factory", local=False, weights=_WEIGHTS, config=True)  # package.module:factory

# What the one parameter of a factory that is given its whole config as a mapping is called.
CONFIG_NAMES = ("config", "cfg", "conf", "options", "params", "hparams")

# Those by scheme first, since what stands behind a scheme may end in anything.
FORMATS = (
    REMOTE, HUGGING_FACE, TIMM, TORCHVISION, MLFLOW, AUTOGLUON,
    TORCH_EXPORT, ONNX, TORCHSCRIPT, SKOPS, XGBOOST, LIGHTGBM, CATBOOST,
)  # fmt: skip


def format_of(model: str) -> ModelFormat:
    """The format that a member's ``model`` is written in."""
    if address_of(model) is not None:
        return REMOTE
    return next((known for known in FORMATS if _is_of(model, known)), FACTORY)


def model_path(model: str) -> str | None:
    """The file or folder that a ``model`` names, as the spec has it; None for what is no path."""
    known = format_of(model)
    return model.removeprefix(f"{known.scheme}:") if known.local else None


def with_model_path(model: str, path: str) -> str:
    """The same format, at another path."""
    scheme = format_of(model).scheme
    return f"{scheme}:{path}" if scheme else path


def convert_command(path: str) -> str:
    """What makes a file that can be loaded out of one that only a pickle's code can read."""
    return f"quorate convert {path} --to {WEIGHTS_SUFFIX.removeprefix('.')}"


def checkpoint_of(member: MemberSpec) -> str | None:
    """The path of the file or folder that holds the member's weights; None for a member that has none."""
    return member.weights or model_path(member.model)


def factory_of(model: str) -> tuple[str, str]:
    """Module and attribute of ``package.module:factory``; the attribute is empty where there is no colon."""
    module, _, attribute = model.partition(":")
    return module, attribute


def _is_of(model: str, known: ModelFormat) -> bool:
    if not known.scheme:
        return model.endswith(known.suffixes)
    scheme, colon, rest = model.partition(":")
    return scheme == known.scheme and bool(colon) and not rest.startswith(known.factories)
