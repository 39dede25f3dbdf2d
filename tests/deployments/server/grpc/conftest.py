"""A client by hand, and inference that waits until it is told to go on."""

import asyncio
import threading

import pytest

from quorate.deployments.server.service import Service
from tests.deployments.support.http2_client import Http2Client


@pytest.fixture
def client(pair):
    with Http2Client(pair.grpc) as client:
        yield client


@pytest.fixture
def slow(monkeypatch):
    """Inference waits until ``slow.go`` is set; ``slow.waiting`` counts those that have begun."""

    class Slow:
        go, waiting = threading.Event(), 0

    infer = Service.infer

    async def wait(service, request, hold):
        Slow.waiting += 1
        try:
            while not Slow.go.is_set():  # noqa: ASYNC110  set on another thread
                await asyncio.sleep(0.005)
            return await infer(service, request, hold)
        finally:
            Slow.waiting -= 1

    monkeypatch.setattr(Service, "infer", wait)
    yield Slow
    Slow.go.set()
