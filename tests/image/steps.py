"""The steps of a Dockerfile, run in folders: a builder of images for machines that have none.

Each stage is a folder that ``chroot`` makes the root of; one that starts from an image of somebody's starts from a bare
Debian with Python. Only what our Dockerfile has is known: FROM, ARG, ENV, WORKDIR, COPY, RUN, USER and what is no step.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_NO_STEP = ("EXPOSE", "HEALTHCHECK", "CMD")


@dataclass
class Stage:
    """What a stage has become.

    Attributes:
        root: its folder.
        env: of what runs in it.
        notes: the arguments of HEALTHCHECK, CMD and EXPOSE.
    """

    root: Path
    env: dict[str, str]
    folder: str = "/"
    user: str = "0:0"
    notes: dict[str, str] = field(default_factory=dict)


class Builder:
    """Builds stages below a folder."""

    def __init__(self, context: Path, base: Path, work: Path, arguments: Mapping[str, str], mounts: tuple[str, ...]):
        """Args:
        context: the folder with the Dockerfile.
        base: a root with Debian and Python, which is copied.
        work: where stages are made.
        arguments: in the place of what ARG says.
        mounts: folders of this machine that pip needs, such as a mirror.
        """
        self._context, self._base, self._work, self._given, self._mounts = context, base, work, arguments, mounts
        self.stages: dict[str, Stage] = {}

    def build(self, target: str) -> Stage:
        """A stage, and those that it is made of."""
        stages = self._read()
        if target not in self.stages:
            image, steps = stages[target]
            self.stages[target] = self._start(target, image, stages)
            for instruction, rest in steps:
                self._step(self.stages[target], instruction, rest)
        return self.stages[target]

    def run(self, stage: Stage, command: str, user: str = "") -> subprocess.CompletedProcess[str]:
        """A command of a shell in a stage, as its user."""
        uid, _, gid = (user or stage.user).partition(":")
        env = {**stage.env, "HOME": "/root" if uid == "0" else "/home/quorate"}
        root = stage.root
        binds = [f"mkdir -p {root}{path} && mount --rbind {path} {root}{path}" for path in self._mounts]
        kernel = [
            f"mount -t proc proc {root}/proc",
            f"mount --rbind /sys {root}/sys",
            f"mkdir -p {root}/dev/shm && mount -t tmpfs tmpfs {root}/dev/shm",
        ]
        variables = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in env.items())]
        words = [*variables, "/bin/bash", "-c", f"cd {stage.folder}\n{command}"]
        inside = ["chroot", f"--userspec={uid}:{gid}", str(root), *words]
        script = " && ".join([*binds, *kernel, shlex.join(inside)])
        return subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "bash", "-c", script],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def _start(self, name: str, image: str, stages: Mapping[str, object]) -> Stage:
        root = self._work / name
        before = (
            self.build(image)
            if image in stages
            else Stage(self._base, {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin"})
        )
        subprocess.run(["cp", "-a", "--reflink=auto", f"{before.root}/.", str(root)], check=True)
        return Stage(root, dict(before.env), before.folder, before.user, dict(before.notes))

    def _step(self, stage: Stage, instruction: str, rest: str) -> None:
        if instruction == "ARG":
            name, _, default = rest.partition("=")
            stage.env[name] = self._given.get(name, default)
        elif instruction == "ENV":
            for name, value in (word.split("=", 1) for word in shlex.split(rest)):
                stage.env[name] = value.replace("$PATH", stage.env["PATH"])
        elif instruction == "WORKDIR":
            stage.folder = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif instruction == "USER":
            stage.user = rest
        elif instruction == "COPY":
            self._copy(stage, rest.split())
        elif instruction == "RUN":
            done = self.run(stage, rest, "0:0")
            assert done.returncode == 0, f"RUN {rest}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        else:
            assert instruction in _NO_STEP, instruction
            stage.notes[instruction] = rest

    def _copy(self, stage: Stage, words: list[str]) -> None:
        origin = self._context
        if words[0].startswith("--from="):
            origin = self.build(words.pop(0).partition("=")[2]).root
        *sources, target = words
        place = stage.root / (target if target.startswith("/") else f"{stage.folder}/{target}").lstrip("/")
        for source in sources:
            found = origin / source.lstrip("/")
            if found.is_dir():
                shutil.copytree(
                    found, place, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                place.mkdir(parents=True, exist_ok=True) if target.endswith("/") else place.parent.mkdir(exist_ok=True)
                shutil.copy2(found, place)

    def _read(self) -> dict[str, tuple[str, list[tuple[str, str]]]]:
        """By the name of each stage what it starts from, and its steps."""
        return stages_of((self._context / "Dockerfile").read_text())


def stages_of(text: str) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Of a Dockerfile: by the name of each stage what it starts from, and its steps."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    for line in filter(None, map(str.strip, lines.splitlines())):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            image, name = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()  # type: ignore[union-attr]
            found[name] = image, []
        elif found:
            list(found.values())[-1][1].append((instruction, rest.strip()))
    return found


def exec_form(text: str) -> list[str]:
    """Of ``CMD ["a", "b"]`` the words."""
    words: list[str] = json.loads(text[text.index("[") :])
    return words
