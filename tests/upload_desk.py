"""What tests of uploads send, and from where: a blob store, a key, and little patience."""

from __future__ import annotations

import contextlib
import hashlib
import random

from ollama_nb.registry.client import Registry
from ollama_nb.registry.keys import KeyPair
from ollama_nb.registry.source import Patience
from ollama_nb.registry.transport import Transport
from ollama_nb.registry.upload import Upload
from ollama_nb.store.blobs import BlobStore
from ollama_nb.store.manifests import Layer, MediaType
from ollama_nb.wire.names import parse_name

TRIES = 4
PATIENCE = Patience(connect=5, stall=5, tries=TRIES, first_wait=0.001, longest_wait=0.002)
PART = 1000
DATA = random.Random(7).randbytes(4500)


class Desk:
    """A blob store and what it takes to send a blob of it to a stand-in."""

    def __init__(self, folder):
        self.blobs = BlobStore(folder)
        self.blobs.directory.mkdir(exist_ok=True)
        self.key = KeyPair(folder / "key")

    def layer(self, data=DATA, from_=""):
        digest, size, _ = self.blobs.put(data)
        return Layer(MediaType.MODEL, digest, size, from_)

    @contextlib.asynccontextmanager
    async def upload(self, registry, layer, part=PART):
        transport = Transport(PATIENCE)
        there = Registry(parse_name(f"{registry.host}/me/x"), transport, self.key, insecure=True)
        try:
            yield Upload(there, self.blobs, layer, part=part)
        finally:
            await transport.aclose()

    async def push(self, registry, layer, part=PART):
        async with self.upload(registry, layer, part) as upload:
            await upload.run()
            assert upload.completed == layer.size


def etag(data, part):
    """The name of a blob's parts, computed as S3 describes it."""
    sums = [hashlib.md5(data[at : at + part]).digest() for at in range(0, len(data), part)]  # noqa: S324
    return f"{hashlib.md5(b''.join(sums)).hexdigest()}-{len(sums)}"  # noqa: S324
