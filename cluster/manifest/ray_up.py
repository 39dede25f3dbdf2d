"""A file for ``ray up``, Ray's own launcher, that makes a cluster of machines that are there and take SSH.

Ray's processes ask for a token and talk by mutual TLS, each node with a certificate of its own.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quorate.cluster.manifest.yaml_text import dump

TOKEN_FILE, CA_CERTIFICATE, CA_KEY = "ray-token", "ca.crt", "ca.key"
CLUSTER_FILE = "cluster.yaml"
# On every node; $HOME is the SSH user's.
_PLACE = "~/.quorate/cluster"
_BIN = "~/.quorate/venv/bin"
_PORT = 6379
_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN_PATH": f"{_PLACE}/{TOKEN_FILE}",
    "RAY_USE_TLS": "1",
    "RAY_TLS_SERVER_CERT": f"{_PLACE}/node.crt",
    "RAY_TLS_SERVER_KEY": f"{_PLACE}/node.key",
    "RAY_TLS_CA_CERT": f"{_PLACE}/{CA_CERTIFICATE}",
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
}


@dataclass(frozen=True)
class Machines:
    """Machines that are there.

    Attributes:
        head: the address of the one that Ray's head runs on; it serves as well.
        workers: of the others.
        user: that SSH logs in as; needs neither root nor Docker.
        ssh_key: a private key of SSH's on the operator's machine; empty for SSH's own choice.
        package: what pip installs on each.
    """

    head: str
    workers: tuple[str, ...]
    user: str
    ssh_key: str
    package: str


def launcher_file(name: str, machines: Machines, folder: Path) -> dict[str, Any]:
    """What the file holds.

    Args:
        folder: on the operator's machine, with the token and the authority; copied to every machine.
    """
    auth = {"ssh_user": machines.user, **({"ssh_private_key": machines.ssh_key} if machines.ssh_key else {})}
    start = f"{_exports()}; ulimit -n 65536; {_BIN}/ray start --port={_PORT}"
    join = f"{_exports()}; ulimit -n 65536; {_BIN}/ray start --address=$RAY_HEAD_IP:{_PORT}"
    certificate = f"{_BIN}/python -m quorate.cluster.manifest.node_certificate {_PLACE}"
    stop = f"{_BIN}/ray stop"
    return {
        "cluster_name": name,
        "max_workers": len(machines.workers),
        "provider": {"type": "local", "head_ip": machines.head, "worker_ips": list(machines.workers)},
        "auth": auth,
        "file_mounts": {_PLACE: str(folder)},
        "setup_commands": [
            f"chmod -R go= {_PLACE}",
            "test -x ~/.quorate/venv/bin/pip || python3 -m venv ~/.quorate/venv",
            f"{_BIN}/pip install --quiet '{machines.package}'",
            certificate,
        ],
        "head_start_ray_commands": [stop, f"{start} --head --autoscaling-config=~/ray_bootstrap_config.yaml"],
        "worker_start_ray_commands": [stop, join],
    }


def launcher_text(config: Mapping[str, Any]) -> str:
    """The file, which begins with how it is used; no secret is in it."""
    ray = f"bash -c '{_exports()}; cd ~/spec; {_BIN}/quorate deploy SPEC --address auto'"
    lines = [
        f"ray up {CLUSTER_FILE}",
        f"ray rsync-up {CLUSTER_FILE} ./spec/ ~/spec/",
        f'ray exec {CLUSTER_FILE} "{ray}"',
    ]
    return "".join(f"# {line}\n" for line in lines) + dump(dict(config))


@dataclass(frozen=True)
class ClusterSecrets:
    """What all machines of a cluster know, each a file that only its owner may read.

    Attributes:
        files: their contents, by name.
    """

    files: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def make(cls) -> ClusterSecrets:
        """A token, and an authority that signs the nodes' certificates."""
        from quorate.cluster.manifest.node_certificate import make_authority

        certificate, key = make_authority()
        token = secrets.token_hex(32).encode()
        return cls({TOKEN_FILE: token, CA_CERTIFICATE: certificate, CA_KEY: key})

    def write(self, folder: Path) -> None:
        """Into a folder, unless one of them is there: a cluster that runs has them."""
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        if any((folder / name).exists() for name in self.files):
            return
        for name, content in self.files.items():
            path = folder / name
            path.touch(mode=0o600)
            path.write_bytes(content)


def _exports() -> str:
    return "export " + " ".join(f"{key}={value}" for key, value in _ENVIRONMENT.items())
