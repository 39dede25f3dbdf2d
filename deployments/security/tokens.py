"""Files of bearer tokens. A token is read here and kept nowhere: only its SHA-256 digest leaves this file.

A digest of a random token says nothing about it, so it may lie in Ray's store and on every node; that is why tokens
must be long.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from quorate.deployments.errors import CredentialError

# 32 hexadecimal digits are 128 bits: beyond guessing, also for who has the digest.
MIN_TOKEN_CHARS = 32
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")  # RFC 6750, 2.1


# In the place of a file: a token that a scheduler has put into the environment need lie on no disk.
FROM_ENVIRONMENT = "env:"


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def among(found: str, digests: Iterable[str]) -> bool:
    """Whether a digest is one of these, in constant time: how long it takes tells nothing."""
    return sum([hmac.compare_digest(found, known) for known in digests]) > 0


def read_tokens(path: Path) -> tuple[str, ...]:
    """The tokens of a file, one a line; empty lines and lines that start with # are skipped.

    Args:
        path: ``env:NAME`` is no file but what the environment has under a name.

    Raises:
        CredentialError: the file is missing, open to other users, empty, or a token is too short or no token.
    """
    variable = str(path).removeprefix(FROM_ENVIRONMENT)
    given = read_private(path) if variable == str(path) else _variable(variable)
    lines = enumerate(given.decode(errors="replace").splitlines(), start=1)
    tokens = {number: line.strip() for number, line in lines if line.strip() and not line.lstrip().startswith("#")}
    for number, token in tokens.items():  # never say what was found: it may be a password
        if not _TOKEN.fullmatch(token):
            raise CredentialError(str(path), f"line {number} is no token", "use letters, digits and -._~+/ only")
        if len(token) < MIN_TOKEN_CHARS:
            found = f"the token in line {number} is shorter than {MIN_TOKEN_CHARS} characters"
            raise CredentialError(str(path), found, "make one with: openssl rand -hex 32")
    if not tokens:
        raise CredentialError(str(path), "holds no token", "make one with: openssl rand -hex 32")
    return tuple(tokens.values())


def read_private(path: Path) -> bytes:
    """A secret's file, unless it is open to everyone on the machine.

    Raises:
        CredentialError: it cannot be read, others may read it, or its group may write it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode  # of what was opened, whatever stands at the path by now
            if mode & (stat.S_IRWXO | stat.S_IWGRP):
                whom = "every user of this machine" if mode & stat.S_IRWXO else "whoever is in its group"
                found = f"is open to {whom} (mode {stat.S_IMODE(mode):o})"
                raise CredentialError(str(path), found, f"run: chmod 600 {path}")
            return file.read()
    except OSError as error:
        raise CredentialError(str(path), f"cannot be read ({error.strerror})", "give a file that exists") from None


def _variable(name: str) -> bytes:
    try:
        return os.environb[name.encode()]
    except KeyError:
        raise CredentialError(f"{FROM_ENVIRONMENT}{name}", "is not set", f"export {name}, or give a file") from None
