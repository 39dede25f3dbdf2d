"""A store outside of the cluster: contents by digest in one of pyarrow's file systems, a bucket or a shared folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from quorate.deployments.errors import DeployError
from quorate.deployments.records.content_cache import PIECE_BYTES, read_pieces
from quorate.deployments.records.file_system import open_file_system
from quorate.deployments.records.kept_files import KeptFiles
from quorate.deployments.spec.uris import says_secret
from quorate.fusion.extras import require

# Stores in which an object is there when all of it is, and not before.
_WHOLE = ("s3", "gcs", "abfs")


class ArtifactStore:
    """One folder of a file system.

    Args:
        uri: as the operator wrote it, for errors.
        system: of pyarrow.
    """

    def __init__(self, uri: str, system: Any, folder: str):
        self._uri, self._system, self._folder = uri, system, folder

    def add(self, source: Path, digest: str, size_bytes: int) -> bool:
        """Have a file's content there; whether it had to be written.

        Raises:
            DeployError: it cannot be written, or the file is not of that digest any more.
        """
        path = self._path(digest)
        try:
            found = self._system.get_file_info(path)
            if found.is_file and found.size == size_bytes:
                return False
            whole = self._system.type_name in _WHOLE
            partial = path if whole else f"{path}.{uuid4().hex}"
            if not whole:
                self._system.create_dir(self._folder, recursive=True)
            if self._write(source, partial) != digest:
                self._system.delete_file(partial)
                raise DeployError(f"{source.name} was changed while it was deployed; deploy again")
            if partial != path:
                self._system.move(partial, path)
        except OSError as error:
            raise DeployError(f"{self._uri} cannot be written to ({_short(error)}); check --store") from None
        return True

    def read(self, digest: str, start: int) -> Iterator[bytes]:
        """A content from a byte on, in pieces.

        Raises:
            OSError: it is not there.
        """
        with self._system.open_input_file(self._path(digest)) as file:
            file.seek(start)
            while piece := file.read(PIECE_BYTES):
                yield piece

    def _write(self, source: Path, path: str) -> str:
        """Returns the digest of what was written."""
        written = hashlib.sha256()
        with self._system.open_output_stream(path) as stream:
            for piece in read_pieces(source, 0):
                written.update(piece)
                stream.write(piece)
        return f"sha256:{written.hexdigest()}"

    def _path(self, digest: str) -> str:
        return f"{self._folder}/{digest.removeprefix('sha256:')}"


@cache
def open_store(uri: str) -> ArtifactStore:
    """The store of a URI such as ``s3://bucket/models``, ``gs://bucket/models`` or ``file:///nfs/models``.

    Raises:
        DeployError: it is none, or holds a secret.
    """
    require("arrow", "--store")
    check_uri(uri)
    try:
        system, folder = open_file_system(uri)
    except (ValueError, OSError, NotImplementedError) as error:
        fix = "give s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or file:///FOLDER"
        raise DeployError(f"--store {uri} cannot be used ({_short(error)}); {fix}") from None
    return ArtifactStore(uri, system, folder)


def check_uri(uri: str) -> None:
    """Refuse credentials in it: records, manifests and logs say where a store is.

    Raises:
        DeployError: there are some; the text does not repeat them.
    """
    if says_secret(uri):
        found = f"--store {urlsplit(uri).scheme}://... has credentials in it, which records would keep"
        where = "in the environment of this machine and of the nodes (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, say)"
        raise DeployError(f"{found}; give them {where}")


def upload(files: KeptFiles, place: Path) -> int:
    """Have all contents of a revision in its store; how many bytes had to be written.

    Args:
        place: where the files are.

    Raises:
        DeployError: the store cannot be used.
    """
    if not files.store:
        return 0
    store = open_store(files.store)
    sizes = {file.digest: file for file in files.files}
    return sum(file.size_bytes for file in sizes.values() if store.add(place / file.path, file.digest, file.size_bytes))


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:200]
