"""What the tests of a store look at, and the names that they give to models."""

from __future__ import annotations

from ollama_nb.wire.names import parse_name

X, Y = parse_name("x"), parse_name("ns/y:tag")


def ignore(status: str) -> None:
    """Takes status lines that the test does not look at."""


def blobs_of(store) -> set[str]:
    return {path.name.replace("-", ":", 1) for path in store.blobs.directory.iterdir()}


def needed(store, *names) -> set[str]:
    return set().union(*(store.manifests.read(parse_name(name)).manifest.digests for name in names))


def shown(store) -> list[str]:
    return [entry.name.short for entry in store.list()]
