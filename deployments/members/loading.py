"""Loads a member's model. One loader for each format of ``spec.model_formats``."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quorate.deployments.errors import MemberLoadError
from quorate.deployments.members.export_archive import UnsafeArchiveError, check_archive
from quorate.deployments.members.model import Model
from quorate.deployments.spec.digests import file_digest
from quorate.deployments.spec.model_formats import FACTORY, ONNX, TORCH_EXPORT, checkpoint_of, factory_of, format_of
from quorate.deployments.spec.schema import MemberSpec


@dataclass(frozen=True)
class _Asked:
    """One member to load; all loaders take this."""

    name: str
    spec: MemberSpec
    folder: Path
    device: torch.device

    def model(self, function: Callable[..., Any], tensors: bool) -> Model:
        return Model(self.name, self.spec, function, self.device, tensors)

    def error(self, found: str, fix: str) -> MemberLoadError:
        return MemberLoadError(self.name, found, fix)


def load_model(name: str, spec: MemberSpec, folder: Path, device: torch.device | None = None) -> Model:
    """Load a member's model and weights.

    Args:
        name: the member's name, for errors.
        spec: the member.
        folder: what relative paths start from; factories are also looked for in it and in the current folder.
        device: where it runs; the GPU this process was given, else the CPU.

    Raises:
        MemberLoadError: the model or its weights cannot be loaded.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    asked = _Asked(name, spec, folder, device)
    _check_digest(asked)
    return _LOADERS[format_of(spec.model).name](asked)


def search_in(*folders: Path) -> None:
    """Let factories be imported from these folders, after all that is installed."""
    for folder in map(str, (f.resolve() for f in folders)):
        if folder not in sys.path:
            sys.path.append(folder)


def _check_digest(asked: _Asked) -> None:
    wanted, checkpoint = asked.spec.digest, checkpoint_of(asked.spec)
    if wanted is None or checkpoint is None:
        return
    path = asked.folder / checkpoint
    found = file_digest(path) if path.is_file() else "no file"
    if found != wanted:
        raise asked.error(f"{path.name} should have {wanted} but has {found}", "restore the file")


def _from_factory(asked: _Asked) -> Model:
    spec, built = asked.spec, _call_factory(asked)
    if isinstance(built, nn.Module):
        if spec.weights:
            _load_weights(asked, built, asked.folder / spec.weights)
        return asked.model(built.to(asked.device).eval(), tensors=True)
    if spec.weights:
        found = f"{spec.model} returned {type(built).__name__}, which takes no weights"
        raise asked.error(found, "return an nn.Module")
    if not callable(built):
        raise asked.error(f"{spec.model} returned {built!r:.80}", "return an nn.Module or a callable on arrays")
    return asked.model(built, tensors=False)


def _call_factory(asked: _Asked) -> Any:
    model = asked.spec.model
    module, attribute = factory_of(model)
    search_in(asked.folder, Path.cwd())
    try:
        factory: Any = importlib.import_module(module)
        for part in attribute.split("."):
            factory = getattr(factory, part)
    except (ImportError, AttributeError) as error:
        raise asked.error(f"{model} cannot be imported: {error}", "check the module on every node") from None
    try:
        return _call(factory, asked.spec.config)
    except Exception as error:
        raise asked.error(f"{model} failed with {type(error).__name__}: {error}", "check its config") from error


_CONFIG_NAMES = ("config", "cfg", "conf", "options", "params", "hparams")


def _call(factory: Callable[..., Any], config: Mapping[str, Any]) -> Any:
    """Call with the config as keyword arguments, or, where the one parameter is a config, with the whole dict."""
    try:
        parameters = list(inspect.signature(factory).parameters.values())
    except ValueError:  # builtins tell no signature
        parameters = []
    takes_dict = len(parameters) == 1 and parameters[0].name in _CONFIG_NAMES
    if takes_dict and parameters[0].kind != inspect.Parameter.VAR_KEYWORD and parameters[0].name not in config:
        return factory(dict(config))
    return factory(**config)


def _load_weights(asked: _Asked, module: nn.Module, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        module.load_state_dict(load_file(path), strict=True)
    except (OSError, SafetensorError) as error:
        raise asked.error(f"{path.name} cannot be read: {error}", "save it with safetensors again") from None
    except RuntimeError as error:
        found = " ".join(str(error).split())[:300]
        raise asked.error(f"{path.name} does not fit the model: {found}", "check config and weights") from None


def _from_torch_export(asked: _Asked) -> Model:
    path = asked.folder / asked.spec.model
    try:
        check_archive(path)
    except UnsafeArchiveError as error:
        raise asked.error(
            f"{path.name} is no torch.export program that may be loaded: {error}",
            "save it again, with torch.export.save",
        ) from None
    try:
        program = torch.export.load(str(path))
    except Exception as error:  # torch raises whatever its zip and flatbuffer readers raise
        raise asked.error(f"{path.name} is no torch.export program: {error}", "save it again") from None
    if asked.device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, asked.device)
    module: nn.Module = program.module()
    return asked.model(module, tensors=True)


def _from_onnx(asked: _Asked) -> Model:
    try:
        import onnxruntime
    except ImportError:
        raise asked.error("onnxruntime is not installed", "pip install 'quorate[onnx]'") from None
    path = asked.folder / asked.spec.model
    gpu = ["CUDAExecutionProvider"] if asked.device.type == "cuda" else []
    try:
        session = onnxruntime.InferenceSession(str(path), providers=[*gpu, "CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise asked.error(f"{path.name} cannot be loaded: {error}", "check the file") from None
    names = [node.name for node in session.get_inputs()]
    return asked.model(lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0], tensors=False)


_LOADERS: Mapping[str, Callable[[_Asked], Model]] = {
    FACTORY.name: _from_factory,
    TORCH_EXPORT.name: _from_torch_export,
    ONNX.name: _from_onnx,
}
