"""What inputs, classes and members must hold beyond the type of each field."""

from __future__ import annotations

from pathlib import PurePath

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.checks.check_preprocess import check_preprocess
from quorate.deployments.spec.model_formats import FACTORY, FORMATS, WEIGHTS_SUFFIX, factory_of, format_of
from quorate.deployments.spec.schema import EnsembleSchema, MemberSpec, Resources, TensorSpec
from quorate.deployments.spec.suggestions import suggest

_SUFFIXES = " or ".join(suffix for known in FORMATS for suffix in known.suffixes)
_SCHEMES = "".join(f", {known.scheme}:{'FOLDER' if known.folder else 'NAME'}" for known in FORMATS if known.scheme)
_ADDRESSES = "http(s)://HOST:PORT/v2/models/NAME, grpc:HOST:PORT/NAME"
_KINDS = f"package.module:factory, or the path of a {_SUFFIXES} file{_SCHEMES}, {_ADDRESSES}"


def check_tensors(spec: EnsembleSchema) -> None:
    for name, tensor in spec.inputs.items():
        if 0 in tensor.shape:
            raise SpecError(
                f"inputs.{name}.shape", f"{list(tensor.shape)} holds no element", "use sizes above 0, or -1"
            )
        _check_example(f"inputs.{name}.example", tensor)


def _check_example(field: str, tensor: TensorSpec) -> None:
    if isinstance(tensor.example, str):
        return  # what is in a file is looked at where files are
    sizes = tensor.example_shape
    if len(sizes) != len(tensor.shape) or any(b not in (-1, a) for a, b in zip(sizes, tensor.shape, strict=True)):
        found = f"{list(sizes)} is no row of shape {list(tensor.shape)}"
        raise SpecError(field, found, "give a size for each -1, and the others as they are")


def check_classes(field: str, classes: tuple[str, ...] | None) -> None:
    if classes is None:
        return
    if not classes:
        raise SpecError(field, "the list is empty", "name the classes, or leave the field out")
    twice = sorted({c for c in classes if classes.count(c) > 1})
    if twice:
        raise SpecError(field, f"{', '.join(twice)} is listed twice", "name each class once")


def check_member(spec: EnsembleSchema, name: str, member: MemberSpec) -> None:
    field = f"members.{name}"
    _check_model(field, member)
    for source in member.inputs:
        if source == name:
            raise SpecError(f"{field}.inputs", f"'{name}' reads itself", "remove it")
        known = {**spec.inputs, **spec.members, **spec.all_fusions}
        if source not in known:
            raise SpecError(
                f"{field}.inputs", f"'{source}' is no input, member or fusion", suggest(source, set(known) - {name})
            )
    if len(set(member.inputs)) < len(member.inputs):
        raise SpecError(f"{field}.inputs", f"{list(member.inputs)} names one twice", "name each once")
    _check_input_names(field, member)
    check_preprocess(spec, field, member)
    check_classes(f"{field}.classes", member.classes)
    _check_member_classes(spec, field, member)
    if member.python is not None and not PurePath(member.python).is_absolute():
        fix = "give the absolute path of an interpreter that every node has, such as /env/bin/python"
        raise SpecError(f"{field}.python", f"'{member.python}' is no absolute path", fix)
    check_resources(f"{field}.resources", member.resources)
    check_range(f"{field}.replicas", member.replicas.min, member.replicas.max)


def _check_input_names(field: str, member: MemberSpec) -> None:
    known = format_of(member.model)
    for source, name in member.input_names.items():
        if source not in member.inputs:
            raise SpecError(f"{field}.input_names", f"the member reads no '{source}'", suggest(source, member.inputs))
        if source in member.preprocess and member.preprocess[source].tokenizer is not None and name != source:
            found = f"'{source}' is called {name}, and its tokenizer names what it makes of it"
            raise SpecError(f"{field}.inputs", found, f"write {source}: {source}")
    twice = sorted({name for name in member.model_inputs if member.model_inputs.count(name) > 1})
    if twice:
        raise SpecError(f"{field}.inputs", f"two are called {twice[0]}", "give the model each input once")
    if member.input_names and known.media:
        found = f"{known.scheme}: members have no names for their inputs"
        raise SpecError(f"{field}.inputs", found, f"write a list, in their order: [{', '.join(member.inputs)}]")


def _check_model(field: str, member: MemberSpec) -> None:
    known = format_of(member.model)
    if member.weights and not known.weights:
        raise SpecError(f"{field}.weights", f"{member.model} already holds its weights", "remove weights")
    if member.config and not known.config:
        raise SpecError(f"{field}.config", f"{member.model} takes no config", "remove config")
    if known.needs_weights and not member.weights:
        fix = f"add weights: the path of a {' or '.join(known.weights)} file; nothing is ever fetched"
        raise SpecError(f"{field}.weights", f"{member.model} would answer at random", fix)
    if known is FACTORY and not _is_factory(member.model):
        found, fix = _other_file(member.model) or ("is no model", f"write {_KINDS}")
        raise SpecError(f"{field}.model", f"'{member.model}' {found}", fix)
    if member.weights and not member.weights.endswith(known.weights):
        fix = "save the state dict with safetensors.torch.save_file; pickles can run code and are refused"
        raise SpecError(f"{field}.weights", f"'{member.weights}' is not a {', '.join(known.weights)} file", fix)
    if member.digest and not member.weights and not known.local:
        raise SpecError(
            f"{field}.digest", "there is no weights file to compare it with", "add weights or remove digest"
        )


# Files that people have of a model, and what becomes of each.
_OTHER_FILES = {
    (".joblib", ".pkl", ".pickle"): (
        "is a pickle, which may run code when it is read",
        "if you trust where it is from, quorate convert {} --to skops, and give that",
    ),
    (WEIGHTS_SUFFIX,): ("holds weights alone", "name the factory of its module as model, and this file as weights"),
    (".h5", ".keras", ".pb", ".tflite"): ("is a model of TensorFlow", "export it to ONNX (tf2onnx), and give that"),
    (".xgb", ".bst", ".model"): ("says no format by its name", "save it again, XGBoost's as .ubj, LightGBM's as .txt"),
}


def _other_file(model: str) -> tuple[str, str] | None:
    """What is said of a file that no format is of, and what to do; None for one that nobody knows."""
    said = (said for suffixes, said in _OTHER_FILES.items() if model.endswith(suffixes))
    found = next(said, None)
    return None if found is None else (found[0], found[1].format(model))


def _is_factory(model: str) -> bool:
    return all(part.isidentifier() for name in factory_of(model) for part in name.split("."))


def _check_member_classes(spec: EnsembleSchema, field: str, member: MemberSpec) -> None:
    if member.classes is None or spec.outputs:  # the classes of several outputs are looked at when all is known
        return
    if member.output not in ("logits", "probabilities"):
        raise SpecError(f"{field}.classes", f"output is '{member.output}', which has none", "remove classes")
    if spec.classes is None:
        raise SpecError(f"{field}.classes", "the ensemble has no classes", "add classes at the top of the spec")
    unknown = [c for c in member.classes if c not in spec.classes]
    if unknown:
        raise SpecError(
            f"{field}.classes",
            f"{', '.join(unknown)} is not among the ensemble's classes",
            suggest(unknown[0], spec.classes),
        )


def check_resources(field: str, resources: Resources) -> None:
    if resources.num_gpus > 1 and resources.num_gpus != int(resources.num_gpus):
        found = f"{resources.num_gpus} cannot be placed"
        raise SpecError(f"{field}.num_gpus", found, "use a fraction below 1, or a whole number")
    if resources.accelerator_type and not resources.num_gpus:
        raise SpecError(f"{field}.accelerator_type", "num_gpus is 0", "ask for num_gpus above 0, or remove it")


def check_range(field: str, low: int, high: int) -> None:
    if low > high:
        raise SpecError(field, f"min {low} is above max {high}", "raise max or lower min")
