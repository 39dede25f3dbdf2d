from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from quorate.cluster.cli.options import Json, Label
from quorate.cluster.cli.tables import show


def init(
    models: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the models lie.", show_default=False)],
    data: Annotated[Path | None, typer.Option(help="A labelled table: what models read, and the classes.")] = None,
    label: Label = "label",
    name: Annotated[str | None, typer.Option(help="Of the ensemble; the folder's without it.")] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", help="What models read: NAME, NAME:DATATYPE or NAME:DATATYPE[SHAPE]; may be repeated."),
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Names with commas between them, as the models' columns.")] = None,
    factory: Annotated[
        list[str] | None, typer.Option(help="MEMBER=MODULE:FACTORY, what builds the network of a weights file.")
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(help="MEMBER={...}, its config as a spec says it, such as what a factory is called with."),
    ] = None,
    replace: Annotated[bool, typer.Option(help="Write it anew where it is there already.")] = False,
    as_json: Json = False,
) -> None:
    """Write a first spec, FOLDER/quorate.yaml, for the models of a folder: they are tried, to see what they give.

    Example: quorate init models --data validation.csv --label target
    """
    from quorate.cluster.operations.models import init as operation

    with contextlib.redirect_stdout(sys.stderr):  # what models print is no part of the result
        done = operation.init(
            models, data, label=label, name=name, inputs=inputs or (),
            classes=None if classes is None else classes.split(","),
            factories=_by_member("--factory", factory), replace=replace,
            configs={member: _mapping(member, text) for member, text in _by_member("--config", config).items()},
        )  # fmt: skip
    show(done, done.to_dict(), as_json)


def _by_member(option: str, given: list[str] | None) -> dict[str, str]:
    for one in given or ():
        if "=" not in one:
            raise typer.BadParameter(f"{option} is '{one}'; write MEMBER=...")
    return dict(one.split("=", 1) for one in given or ())


def _mapping(member: str, text: str) -> dict[str, Any]:
    """As a spec says it."""
    from quorate.deployments.errors import SpecError
    from quorate.deployments.spec.schema import MemberSpec
    from quorate.deployments.spec.text.scalars import resolved
    from quorate.deployments.spec.text.yaml_text import read_yaml

    try:
        found = resolved({"config": read_yaml(text)}, MemberSpec)["config"]
    except SpecError:
        found = None
    if not isinstance(found, dict):
        raise typer.BadParameter(f"--config {member} is '{text}'; write a mapping, such as {member}={{width: 8}}")
    return found
