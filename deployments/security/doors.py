"""Where the doors of an ensemble stand and whom they admit."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

from quorate.deployments.errors import DeployError, ExposureError
from quorate.deployments.security.certificates import Certificates, Tls
from quorate.deployments.security.tokens import digest, read_tokens

LOOPBACK = "127.0.0.1"
# Stand for all addresses of a machine, and are none that others could go to.
WILDCARDS = ("0.0.0.0", "::")


@dataclass(frozen=True)
class Doors:
    """How an ensemble is reached. Doors that other machines can reach need tokens, or an explicit ``insecure``.

    Attributes:
        host: the address that both doors bind on each node; ``0.0.0.0`` for all of its addresses.
        ask_tokens: digests of the tokens that admit to inference; without any, everyone may ask.
        management_tokens: digests of those that admit to management, and to all else too.
        tls: serve TLS, and ask clients for certificates where it names their roots.
        insecure: others may reach doors without tokens.
        feedback_tokens: digests of those that admit to giving labels, and to inference too.

    Raises:
        ExposureError: doors open to the network, without tokens and without ``insecure``.
    """

    host: str = LOOPBACK
    ask_tokens: tuple[str, ...] = ()
    management_tokens: tuple[str, ...] = ()
    tls: Tls | None = None
    insecure: bool = False
    feedback_tokens: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (self.ask_tokens or self.insecure or is_loopback(self.host)):
            raise ExposureError(self.host)
        if self.ask_tokens and self.insecure:
            raise DeployError("--insecure opens the doors to everyone and --auth-token-file does not; give one of them")

    @property
    def warning(self) -> str:
        """What the operator should be warned of; empty for nothing."""
        if is_loopback(self.host):
            return ""
        if self.insecure:
            return f"anyone who reaches {self.host} may ask, as --insecure says"
        return "" if self.tls else "tokens and rows travel in clear; give --tls-cert and --tls-key"


def doors_from_files(
    host: str | None = None,
    auth_token_file: Path | None = None,
    management_token_file: Path | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    tls_client_ca: Path | None = None,
    insecure: bool = False,
    feedback_token_file: Path | None = None,
) -> Doors:
    """The doors that files describe, each file read once to see that it can be used.

    Raises:
        CredentialError: a file cannot be used.
        DeployError: the options do not go together.
    """
    if (tls_cert is None) != (tls_key is None) or (tls_client_ca is not None and tls_cert is None):
        raise DeployError("TLS needs both --tls-cert and --tls-key; --tls-client-ca goes with them")
    tls = None
    if tls_cert is not None and tls_key is not None:
        tls = Tls(*(str(path.absolute()) if path else "" for path in (tls_cert, tls_key, tls_client_ca)))
        Certificates(tls)
    asks, manages, labels = (_digests(file) for file in (auth_token_file, management_token_file, feedback_token_file))
    return Doors(host or LOOPBACK, asks, manages, tls, insecure, labels)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address.

    Raises:
        DeployError: it is none.
    """
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        raise DeployError(f"--host {host} is no address of this machine; give one, or 0.0.0.0 for all") from None
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found)


def outward_address() -> str:
    """The address by which other machines reach this one; loopback where there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("8.8.8.8", 53))  # sends nothing: it looks up the way there
        except OSError:
            return LOOPBACK
        return str(probe.getsockname()[0])


def at_port(host: str, port: int) -> str:
    """``host:port`` as URLs and gRPC write it: IPv6 stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind(host: str, port: int, share: bool = False) -> socket.socket:
    """A socket bound to a port, which takes no connections yet.

    Args:
        host: an address of this machine.
        port: 0 for a free one.
        share: with other processes of this user that share it too, which is how doors hand a port over.

    Raises:
        OSError: the port is taken, or the host is no address of this machine.
    """
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if share:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def _digests(path: Path | None) -> tuple[str, ...]:
    return () if path is None else tuple(digest(token) for token in read_tokens(path))
