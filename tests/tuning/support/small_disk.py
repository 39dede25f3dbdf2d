"""A file system that fills up."""

import contextlib
import shutil
import subprocess

import pytest


@contextlib.contextmanager
def small_disk(place, size="1m"):
    """A new file system of so many bytes at an empty folder."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "quorate-test", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs to mount a file system: Linux and root")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(disk, leave):
    """Take all room but so many bytes."""
    with (disk / "ballast").open("wb") as file:
        file.write(bytes(max(0, shutil.disk_usage(disk).free - leave)))
