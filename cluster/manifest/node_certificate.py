"""Certificates for Ray's own TLS: an authority of the cluster's, and one certificate for each node, made there.

``python -m quorate.cluster.manifest.node_certificate FOLDER`` writes ``node.crt`` and ``node.key`` beside ``ca.crt``
and ``ca.key``. Ray checks that a certificate names the address that it connects to.
"""

from __future__ import annotations

import datetime
import ipaddress
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quorate.deployments.security.doors import LOOPBACK, outward_address
from quorate.fusion.extras import require

if TYPE_CHECKING:
    from cryptography import x509

_VALID = datetime.timedelta(days=825)


def make_authority() -> tuple[bytes, bytes]:
    """Certificate and key, PEM, of an authority that is this cluster's alone."""
    require("serve", "certificates")
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("quorate ray cluster")
    builder = _builder(name, name, key.public_key()).add_extension(x509.BasicConstraints(True, 0), critical=True)
    return _signed(builder, key), _pem(key)


def make_node_certificate(authority: bytes, authority_key: bytes, hosts: Iterable[str]) -> tuple[bytes, bytes]:
    """Certificate and key, PEM, of a node.

    Args:
        hosts: the addresses and names by which other nodes reach it.
    """
    require("serve", "certificates")
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.load_pem_x509_certificate(authority).subject
    names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
    builder = _builder(_name("quorate ray node"), issuer, key.public_key()).add_extension(names, critical=False)
    signer: Any = serialization.load_pem_private_key(authority_key, None)
    return _signed(builder, signer), _pem(key)


def main(folder: Path) -> None:
    """Write this node's, for its addresses."""
    hosts = dict.fromkeys([LOOPBACK, "localhost", outward_address(), socket.gethostname()])
    files = make_node_certificate((folder / "ca.crt").read_bytes(), (folder / "ca.key").read_bytes(), hosts)
    for name, content in zip(("node.crt", "node.key"), files, strict=True):
        path = folder / name
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(content)


def _builder(subject: x509.Name, issuer: x509.Name, key: Any) -> x509.CertificateBuilder:
    from cryptography import x509

    now = datetime.datetime.now(datetime.timezone.utc)
    serial = x509.random_serial_number()
    builder = x509.CertificateBuilder(issuer, subject, key, serial)
    return builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + _VALID)


def _signed(builder: x509.CertificateBuilder, key: Any) -> bytes:
    from cryptography.hazmat.primitives import hashes, serialization

    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    form = serialization.PrivateFormat.PKCS8
    found: bytes = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return found


def _name(text: str) -> x509.Name:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _general_name(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


if __name__ == "__main__":
    main(Path(sys.argv[1]).expanduser())
