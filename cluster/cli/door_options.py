"""Options of the command line about doors: who may come in, and how a client shows that it may."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from quorate.deployments.security.credentials import Credentials
    from quorate.deployments.security.doors import Doors

Host = Annotated[
    str | None,
    typer.Option(
        help="Address the doors bind on each node, 0.0.0.0 for all; without it 127.0.0.1.", show_default=False
    ),
]
AuthTokenFile = Annotated[
    Path | None,
    typer.Option(help="Bearer tokens that admit to inference, one a line; env:NAME is a variable.", show_default=False),
]
ManagementTokenFile = Annotated[
    Path | None,
    typer.Option(help="Bearer tokens that admit to management as well.", show_default=False),
]
FeedbackTokenFile = Annotated[
    Path | None,
    typer.Option(help="Bearer tokens that admit to labels for answers as well.", show_default=False),
]
Insecure = Annotated[bool, typer.Option("--insecure", help="Let other machines ask without a token.")]
TlsCert = Annotated[
    Path | None,
    typer.Option(help="The server's certificate, PEM, on every node: the doors speak TLS.", show_default=False),
]
TlsKey = Annotated[
    Path | None,
    typer.Option(help="Its private key.", show_default=False),
]
TlsClientCa = Annotated[
    Path | None,
    typer.Option(help="Ask clients for certificates of these roots.", show_default=False),
]
TokenFile = Annotated[
    Path | None,
    typer.Option("--auth-token-file", help="Show the first token of this file, or env:NAME.", show_default=False),
]
Ca = Annotated[
    Path | None,
    typer.Option("--ca", help="Roots that the server's certificate must go back to.", show_default=False),
]
Cert = Annotated[
    Path | None,
    typer.Option("--cert", help="Show the server this certificate.", show_default=False),
]
Key = Annotated[
    Path | None,
    typer.Option("--key", help="Its private key, where it is in another file.", show_default=False),
]


def doors(
    host: str | None,
    auth_token_file: Path | None,
    management_token_file: Path | None,
    insecure: bool,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    feedback_token_file: Path | None = None,
) -> Doors | None:
    """The doors that ``deploy`` was asked for; None where no option of theirs was given."""
    files = (auth_token_file, management_token_file, tls_cert, tls_key, tls_client_ca)
    if host is None and not insecure and (*files, feedback_token_file) == (None,) * (len(files) + 1):
        return None
    from quorate.deployments.security.doors import doors_from_files

    return doors_from_files(host, *files, insecure=insecure, feedback_token_file=feedback_token_file)


def credentials(token: Path | None, ca: Path | None, cert: Path | None, key: Path | None) -> Credentials:
    """What a client shows the server."""
    from quorate.deployments.security.credentials import Credentials

    return Credentials.from_files(token, ca, cert, key)
