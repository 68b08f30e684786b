"""What tests of a registry's client talk about: one repository with a manifest and a blob, and how it is read."""

from __future__ import annotations

from hostile_registry import Answer

from ollama_nb.registry.source import Patience

IMPATIENT = Patience(connect=5, stall=1, tries=3, first_wait=0.01, longest_wait=0.05)
DIGEST = f"sha256:{'ab' * 32}"
CONTENT = bytes(range(256)) * 8
SIZE = len(CONTENT)
MANIFEST = "/v2/library/x/manifests/latest"
BLOB = f"/v2/library/x/blobs/{DIGEST}"


async def read(source, start=0, stop=SIZE, size=SIZE):
    """Where a body begins, and its bytes."""
    async with source.read(start, stop, size) as body:
        return body.start, b"".join([chunk async for chunk in body.chunks])


def reading(start=0, stop=SIZE, size=SIZE):
    return lambda registry: read(registry.blob(DIGEST), start, stop, size)


def challenge(registry, token=b'{"token":"t"}'):
    """A script that wants a token, and gives ``answer`` to who shows one."""
    registry.answers["/token"] = Answer(body=token)
    header = f'Bearer realm="{registry.url}/token",service="s",scope="repository:library/x:pull"'
    refused = Answer(401, headers={"WWW-Authenticate": header})

    def guard(answer):
        def script(asked):
            if asked.headers.get("authorization") != "Bearer t":
                return refused
            return answer(asked) if callable(answer) else answer

        return script

    return guard
