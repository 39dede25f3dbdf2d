"""Loads a member's model: from a factory with its weights, a torch.export program or an ONNX file."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quorate.deployments.errors import MemberLoadError
from quorate.deployments.members.model import Model
from quorate.deployments.spec.files import file_digest
from quorate.deployments.spec.schema import MemberSpec

_CONFIG_NAMES = ("config", "cfg", "conf", "options", "params", "hparams")


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
    _check_digest(name, spec, folder)
    if spec.model.endswith(".pt2"):
        return Model(name, spec, _load_exported(name, folder / spec.model, device), device, tensors=True)
    if spec.model.endswith(".onnx"):
        return Model(name, spec, _load_onnx(name, folder / spec.model, device), device, tensors=False)
    built = _build(name, spec, folder)
    if isinstance(built, nn.Module):
        if spec.weights:
            _load_weights(name, built, folder / spec.weights)
        return Model(name, spec, built.to(device).eval(), device, tensors=True)
    if spec.weights:
        raise MemberLoadError(
            name, f"{spec.model} returned {type(built).__name__}, which takes no weights", "return an nn.Module"
        )
    if not callable(built):
        raise MemberLoadError(
            name, f"{spec.model} returned {built!r:.80}", "return an nn.Module or a callable on arrays"
        )
    return Model(name, spec, built, device, tensors=False)


def _check_digest(name: str, spec: MemberSpec, folder: Path) -> None:
    path = folder / (spec.weights or spec.model)
    if spec.digest and (not path.is_file() or (found := file_digest(path)) != spec.digest):
        found = found if path.is_file() else "no file"
        raise MemberLoadError(name, f"{path.name} should have {spec.digest} but has {found}", "restore the file")


def search_in(*folders: Path) -> None:
    """Let factories be imported from these folders, after all that is installed."""
    for folder in map(str, (f.resolve() for f in folders)):
        if folder not in sys.path:
            sys.path.append(folder)


def _build(name: str, spec: MemberSpec, folder: Path) -> Any:
    module, _, attribute = spec.model.partition(":")
    search_in(folder, Path.cwd())
    try:
        factory: Any = importlib.import_module(module)
        for part in attribute.split("."):
            factory = getattr(factory, part)
    except (ImportError, AttributeError) as error:
        raise MemberLoadError(
            name, f"{spec.model} cannot be imported: {error}", "check the module on every node"
        ) from None
    try:
        return _call(factory, spec.config)
    except Exception as error:
        raise MemberLoadError(
            name, f"{spec.model} failed with {type(error).__name__}: {error}", "check its config"
        ) from error


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


def _load_weights(name: str, module: nn.Module, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        module.load_state_dict(load_file(path), strict=True)
    except (OSError, SafetensorError) as error:
        raise MemberLoadError(name, f"{path.name} cannot be read: {error}", "save it with safetensors again") from None
    except RuntimeError as error:
        found = " ".join(str(error).split())[:300]
        raise MemberLoadError(
            name, f"{path.name} does not fit the model: {found}", "check config and weights"
        ) from None


def _load_exported(name: str, path: Path, device: torch.device) -> Callable[..., Any]:
    try:
        program = torch.export.load(str(path))
    except Exception as error:  # torch raises whatever its zip and flatbuffer readers raise
        raise MemberLoadError(name, f"{path.name} is no torch.export program: {error}", "save it again") from None
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    module: nn.Module = program.module()
    return module


def _load_onnx(name: str, path: Path, device: torch.device) -> Callable[..., Any]:
    try:
        import onnxruntime
    except ImportError:
        raise MemberLoadError(name, "onnxruntime is not installed", "pip install 'quorate[onnx]'") from None
    wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"] if device.type == "cuda" else ["CPUExecutionProvider"]
    try:
        session = onnxruntime.InferenceSession(str(path), providers=wanted)
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise MemberLoadError(name, f"{path.name} cannot be loaded: {error}", "check the file") from None
    names = [node.name for node in session.get_inputs()]
    return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0]
