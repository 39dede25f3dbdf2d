"""A plugin of pytest: every client of httpx shows a secret, the one of the environment."""

import os

import httpx


def pytest_configure() -> None:
    for kind in (httpx.Client, httpx.AsyncClient):
        _show_secret(kind)


def _show_secret(kind: type[httpx.Client] | type[httpx.AsyncClient]) -> None:
    make = kind.__init__

    def showing(client: httpx.Client | httpx.AsyncClient, *args: object, **options: object) -> None:
        make(client, *args, **options)  # type: ignore[arg-type]
        client.headers["x-api-key"] = os.environ["API_KEY"]

    kind.__init__ = showing  # type: ignore[assignment, method-assign]
