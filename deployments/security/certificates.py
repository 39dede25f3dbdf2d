"""TLS for both doors from files that lie on every node; a file that changes is used from the next connection on."""

from __future__ import annotations

import ssl
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import NoReturn

from quorate.deployments.errors import CredentialError
from quorate.deployments.security.credentials import pem_fault
from quorate.deployments.security.tokens import read_private

# What a connection speaks, as TLS names it (ALPN).
HTTP, GRPC = "http/1.1", "h2"


@dataclass(frozen=True)
class Tls:
    """Files in PEM.

    Attributes:
        cert: the server's certificate, then those between it and the root.
        key: its private key, not encrypted.
        client_ca: roots of the certificates that clients must show; empty to ask for none.
    """

    cert: str
    key: str
    client_ca: str = ""


class Certificates:
    """The files as each door wants them.

    Attributes:
        http: hands each new connection to the context of the files as they were read last.
        grpc: likewise.

    Raises:
        CredentialError: a file is missing, no PEM, or the key belongs to another certificate.
    """

    def __init__(self, tls: Tls):
        self._tls = tls
        self._seen = self._stamps()
        self.http, self.grpc = self._context(HTTP), self._context(GRPC)
        self.http.sni_callback, self.grpc.sni_callback = self._hand_over_http, self._hand_over_grpc
        self._read()

    def expire(self) -> dict[str, float]:
        """When the first certificate of each file that is in use ceases to be valid, in seconds since 1970."""
        return dict(self._expire)

    def refresh(self) -> None:
        """Look whether the files have changed, and take them if they fit together; call this every so often.

        Raises:
            CredentialError: they do not; what was read before stays in use.
        """
        seen = self._stamps()
        if seen == self._seen:
            return
        self._seen = seen
        self._read()

    def _read(self) -> None:
        """Replace both at once, and only by files that fit together."""
        # Never loaded into the context in use: that would go on trusting the roots that are taken out of the file.
        self._current = self._context(HTTP), self._context(GRPC)
        files = {"certificate": self._tls.cert, "client_ca": self._tls.client_ca}
        expire = {kind: _first_expiry(Path(path)) for kind, path in files.items() if path}
        self._expire = {kind: at for kind, at in expire.items() if at is not None}

    def _hand_over_http(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current[0]

    def _hand_over_grpc(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current[1]

    def _context(self, protocol: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols([protocol])
        if self._tls.client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
        self._load(context)
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        tls = self._tls
        read_private(Path(tls.key))
        try:
            context.load_cert_chain(tls.cert, tls.key, password=lambda: _refuse_encrypted(tls.key))
        except OSError as error:
            _refuse(tls.cert, f"is no certificate for the key {tls.key}", error)
        if tls.client_ca:
            try:
                context.load_verify_locations(tls.client_ca)
            except OSError as error:
                _refuse(tls.client_ca, "holds no certificates", error)

    def _stamps(self) -> tuple[int, ...]:
        try:
            return tuple(Path(path).stat().st_mtime_ns for path in astuple(self._tls) if path)
        except OSError as error:
            _refuse(str(error.filename), "cannot be read", error)


def _first_expiry(path: Path) -> float | None:
    """Of the certificates in a file, when the first ceases to be valid, in seconds since 1970.

    None where only OpenSSL can read them, which also takes blocks called TRUSTED CERTIFICATE.
    """
    from cryptography import x509  # here, since only servers have it

    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError:
        return None
    return min(certificate.not_valid_after_utc.timestamp() for certificate in found)


def _refuse(path: str, found: str, error: OSError) -> NoReturn:
    raise CredentialError(
        path, f"{found} ({pem_fault(error)})", "give PEM files that belong together, on every node"
    ) from None


def _refuse_encrypted(key: str) -> NoReturn:
    raise CredentialError(key, "is encrypted", "decrypt it with: openssl pkey -in KEY -out FILE")
