"""What a client proves itself with, and how it checks the server's identity."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from quorate.deployments.errors import CredentialError
from quorate.deployments.security.tokens import read_tokens


@dataclass(frozen=True)
class Credentials:
    """How a client proves who it is.

    Attributes:
        token: the bearer token; empty for none.
        ca: a PEM file of the roots that the server's certificate goes back to; empty for the system's.
        cert: a PEM file of the client's own certificate, for servers that ask for one.
        key: its private key; empty where it is in the same file.
    """

    token: str = field(default="", repr=False)
    ca: str = ""
    cert: str = ""
    key: str = ""

    @classmethod
    def from_files(
        cls, token: Path | None = None, ca: Path | None = None, cert: Path | None = None, key: Path | None = None
    ) -> Credentials:
        """The same with the token from a file, its first.

        Raises:
            CredentialError: the file holds no token.
        """
        return cls(read_tokens(token)[0] if token else "", *(str(path or "") for path in (ca, cert, key)))

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"} if self.token else {}

    def context(self) -> ssl.SSLContext:
        """For connections by TLS.

        Raises:
            CredentialError: a file cannot be used.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.cert:
                context.load_cert_chain(self.cert, self.key or None)
        except OSError as error:
            files = ", ".join(path for path in (self.ca, self.cert, self.key) if path)
            raise CredentialError(
                files, f"cannot be used ({pem_fault(error)})", "give certificates and key in PEM"
            ) from None
        return context


def pem_fault(error: OSError) -> str:
    """What was wrong with a file in PEM: ssl.SSLError is an OSError whose reason is OpenSSL's."""
    return str(getattr(error, "reason", None) or error.strerror or "not PEM")
