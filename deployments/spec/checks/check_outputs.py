"""What a spec of several outputs must hold: each is a fusion, of classes that its members can know."""

from __future__ import annotations

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.checks.check_members import check_classes
from quorate.deployments.spec.schema import EnsembleSchema, MemberSpec
from quorate.deployments.spec.suggestions import suggest


def check_outputs(spec: EnsembleSchema) -> None:
    """Raise SpecError for the first mistake in ``outputs``, or in the classes of one; members are checked before."""
    if spec.outputs and spec.output:
        raise SpecError("outputs", "output is given as well", "remove one of the two")
    if spec.outputs and spec.task is not None:
        found = f"the task is {spec.task}, and several outputs have each the one that its members give"
        raise SpecError("outputs", found, "remove task, or deploy this output by itself")
    if spec.outputs and spec.quantiles is not None:
        raise SpecError("outputs", "quantiles are levels of one output", "deploy this output by itself")
    for place, name in enumerate(spec.outputs):
        if name not in spec.fusions:
            raise SpecError(f"outputs[{place}]", f"'{name}' is not a fusion", suggest(name, spec.fusions))
        if name in spec.outputs[:place]:
            raise SpecError(f"outputs[{place}]", f"'{name}' is there twice", "name each once")
    for name, fusion in spec.all_fusions.items():
        field = f"{spec.field_of(name)}.classes"
        if fusion.classes is not None and name not in spec.outputs:
            fix = "write classes at the top of the spec, or name the fusion under outputs"
            raise SpecError(field, "only one of several outputs has its own", fix)
        check_classes(field, fusion.classes)


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
