from __future__ import annotations

import asyncio

import pytest
from hostile_registry import HostileRegistry, blob
from one_repository import CONTENT, DIGEST, IMPATIENT
from upload_desk import Desk

from ollama_nb.registry.client import Registry
from ollama_nb.registry.keys import KeyPair
from ollama_nb.registry.transport import Transport
from ollama_nb.wire.names import Name


@pytest.fixture
def registry():
    with HostileRegistry() as server:
        server.offer("library/x", {"schemaVersion": 2}, {DIGEST: blob(CONTENT)})
        yield server


@pytest.fixture
def elsewhere():
    with HostileRegistry() as server:
        server.answers["/stored"] = blob(CONTENT)
        yield server


@pytest.fixture
def talk(registry, tmp_path):
    """What some work with the repository ``library/x`` gives."""

    def run(work, host=None, **fields):
        async def within():
            transport = Transport(IMPATIENT)
            try:
                name = Name(host or registry.host, "library", "x", "latest")
                return await work(Registry(name, transport, KeyPair(tmp_path), **{"insecure": True, **fields}))
            finally:
                await transport.aclose()

        return asyncio.run(within())

    return run


@pytest.fixture
def desk(tmp_path):
    """Where uploads begin."""
    return Desk(tmp_path)
