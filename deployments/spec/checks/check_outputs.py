"""What a spec of several outputs must hold: each is a fusion, of classes that its members can know."""

from __future__ import annotations

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.checks.check_members import check_classes
from quorate.deployments.spec.checks.check_task import check_task
from quorate.deployments.spec.schema import EnsembleSchema, MemberSpec
from quorate.deployments.spec.suggestions import suggest

# What each of several outputs may have of its own; of the only one these stand at the top of the spec.
_OWN = ("classes", "task", "quantiles")


def check_outputs(spec: EnsembleSchema) -> None:
    """Raise SpecError for the first mistake in ``outputs``, or in the classes of one; members are checked before."""
    if spec.outputs and spec.output:
        raise SpecError("outputs", "output is given as well", "remove one of the two")
    for field in ("task", "quantiles"):
        if spec.outputs and getattr(spec, field) is not None:
            fix = f"write it under the fusion: fusions.{spec.outputs[0]}.{field}"
            raise SpecError(field, "each of several outputs has its own", fix)
    for place, name in enumerate(spec.outputs):
        if name not in spec.fusions:
            raise SpecError(f"outputs[{place}]", f"'{name}' is not a fusion", suggest(name, spec.fusions))
        if name in spec.outputs[:place]:
            raise SpecError(f"outputs[{place}]", f"'{name}' is there twice", "name each once")
    for name, fusion in spec.all_fusions.items():
        for field in _OWN:
            if getattr(fusion, field) is not None and name not in spec.outputs:
                fix = f"write {field} at the top of the spec, or name the fusion under outputs"
                raise SpecError(f"{spec.field_of(name)}.{field}", "only one of several outputs has its own", fix)
        if fusion.task in ("tagging", "tokens"):
            found = "rows of tokens are batched by their lengths, those of other outputs are not"
            raise SpecError(f"{spec.field_of(name)}.task", found, "deploy this output by itself")
        check_classes(f"{spec.field_of(name)}.classes", fusion.classes)


def check_task_of(spec: EnsembleSchema, output: str) -> None:
    """Raise SpecError where an output is not fused as its task asks; of several it names the fusion."""
    fusion = spec.all_fusions[output]
    if fusion.classes is not None and all(spec.members[name].output == "values" for name in fusion.members):
        raise SpecError(f"{spec.field_of(output)}.classes", "its members give values", "remove classes")
    try:
        check_task(spec.view(output))
    except SpecError as error:
        if not spec.outputs or error.field not in _OWN:
            raise
        raise SpecError(f"fusions.{output}.{error.field}", error.found, error.fix) from None


def check_output_classes(spec: EnsembleSchema) -> None:
    """Raise SpecError for a member whose classes are those of none, or of two, of the outputs that it is fused into."""
    for name, member in spec.members.items():
        found = {output: spec.view(output).classes for output in spec.outputs if name in spec.upstream(output)}
        (first, classes), *others = found.items()
        for output, other in others:
            if other != classes and member.output in ("logits", "probabilities"):
                fix = "give them the same classes, or each a member of its own"
                raise SpecError(f"members.{name}", f"outputs '{first}' and '{output}' have other classes", fix)
        _check_known(name, member, classes)


def _check_known(name: str, member: MemberSpec, classes: tuple[str, ...] | None) -> None:
    for one in member.classes or ():
        if one not in (classes or ()):
            found = f"{one} is not among the classes of the output that it is fused into"
            raise SpecError(f"members.{name}.classes", found, suggest(one, classes or ()))
