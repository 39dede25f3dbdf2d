"""The key pair and the certificate by which replicas on different nodes prove that they belong to one cluster.

There is one pair for the whole cluster. Both ends of a connection present its certificate and accept no other, so there
is no authority to run and no host name to check. It is here and not in ``security``, which is about clients: only
connections between replicas use it.
"""

from __future__ import annotations

import json
import os
import ssl
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# Always valid: clocks of nodes differ, and the pair goes when the cluster goes (RFC 5280, 4.1.2.5: no expiry).
_VALID_FROM, _VALID_UNTIL = datetime(2000, 1, 1), datetime(9999, 12, 31, 23, 59, 59)
_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "quorate cluster")])


@dataclass(frozen=True)
class ClusterKeys:
    """A certificate and its private key, both PEM; never printed."""

    certificate: bytes = field(repr=False)
    private_key: bytes = field(repr=False)

    @classmethod
    def make(cls) -> ClusterKeys:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            x509.CertificateBuilder(_NAME, _NAME, key.public_key(), x509.random_serial_number())
            .not_valid_before(_VALID_FROM)
            .not_valid_after(_VALID_UNTIL)
            # Not an authority: whoever trusts this certificate trusts no other that it might have signed.
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        private_key = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return cls(certificate.public_bytes(serialization.Encoding.PEM), private_key)

    def to_json(self) -> bytes:
        return json.dumps([self.certificate.decode(), self.private_key.decode()]).encode()

    @classmethod
    def from_json(cls, data: bytes | str) -> ClusterKeys:
        """What ``to_json`` gave."""
        return cls(*(part.encode() for part in json.loads(data)))

    def for_server(self) -> ssl.SSLContext:
        """For the replica that listens."""
        context = self._context(ssl.PROTOCOL_TLS_SERVER)
        context.num_tickets = 0  # nobody resumes a session
        return context

    def for_client(self) -> ssl.SSLContext:
        """For the replica that connects."""
        return self._context(ssl.PROTOCOL_TLS_CLIENT)

    def _context(self, protocol: ssl._SSLMethod) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self.certificate.decode())
        self._load_chain(context)
        return context

    def _load_chain(self, context: ssl.SSLContext) -> None:
        """``ssl`` takes a private key only from a file: this one is in memory and has no name."""
        descriptor = os.memfd_create("quorate-keys", os.MFD_CLOEXEC)
        with open(descriptor, "wb") as file:
            file.write(self.certificate + self.private_key)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
