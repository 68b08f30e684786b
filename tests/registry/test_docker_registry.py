"""Pushing to a real registry and pulling from it; before it a front asks for tokens and lets accidents happen."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
from docker_registry import docker_registry
from registry_front import Accident, registry_front

from ollama_nb.registry.client import Registry
from ollama_nb.registry.keys import KeyPair
from ollama_nb.registry.source import Patience
from ollama_nb.registry.transport import Transport
from ollama_nb.registry.upload import Upload
from ollama_nb.store.blobs import BlobStore
from ollama_nb.store.manifests import Layer, Manifest, MediaType, encode_manifest
from ollama_nb.wire.errors import NotFoundError, RegistryError
from ollama_nb.wire.names import parse_name

PATIENCE = Patience(connect=5, stall=20, tries=3, first_wait=0.001, longest_wait=0.002)
PART = 100_000


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A registry for the repositories of this module; each test has blobs of its own."""
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    """Ada's key, by which her namespace is hers."""
    return KeyPair(tmp_path_factory.mktemp("ada"))


@pytest.fixture
def front(registry, key):
    with registry_front(registry.url, keys={key.public_text: {"ada"}}) as running:
        yield running


@pytest.fixture
def blobs(tmp_path):
    store = BlobStore(tmp_path)
    store.directory.mkdir()
    return store


_fresh = random.Random(2)


def layer_of(blobs, size=450_000, from_=""):
    """A blob that no test has had before."""
    digest, size, _ = blobs.put(_fresh.randbytes(size))
    return Layer(MediaType.MODEL, digest, size, from_)


@contextlib.asynccontextmanager
async def repository(host, key, name="ada/model:8b"):
    transport = Transport(PATIENCE)
    try:
        yield Registry(parse_name(f"{host}/{name}"), transport, key, insecure=True)
    finally:
        await transport.aclose()


def push(host, key, blobs, layer, name="ada/model:8b"):
    """Sends one blob."""

    async def main():
        async with repository(host, key, name) as there:
            upload = Upload(there, blobs, layer, part=PART)
            await upload.run()
            assert upload.completed == layer.size

    asyncio.run(main())


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_what_is_pushed_is_there_and_comes_back_byte_by_byte(tmp_path, key, blobs, relative):
    async def main():
        with docker_registry(tmp_path / "registry", relative=relative) as registry:
            layers = [layer_of(blobs), layer_of(blobs, 3)]
            config = Layer(MediaType.CONFIG, *blobs.put(b"{}\n")[:2])
            data = encode_manifest(Manifest(config=config, layers=tuple(layers)))
            async with repository(registry.host, key) as there:
                with pytest.raises(NotFoundError, match="file does not exist"):
                    await there.manifest()
                for layer in (*layers, config):
                    assert not await there.has_blob(layer.digest)
                    await Upload(there, blobs, layer, part=PART).run()
                    assert await there.has_blob(layer.digest)
                await there.put_manifest(data)
                assert await there.manifest() == registry.manifest("ada/model", "8b") == data
                for layer in layers:
                    async with there.blob(layer.digest).read(0, layer.size, layer.size) as body:
                        chunks = [chunk async for chunk in body.chunks]
                    assert b"".join(chunks) == blobs.read(layer.digest)
            assert registry.blobs().items() >= {layer.digest: layer.size for layer in (*layers, config)}.items()
            assert registry.uploads() == []

    asyncio.run(main())


@pytest.mark.parametrize("size", [1, 2, PART - 1, PART, PART + 1, 3 * PART])
def test_a_blob_of_any_size_arrives(registry, front, key, blobs, size):
    layer = layer_of(blobs, size)
    push(front.host, key, blobs, layer)
    assert registry.blobs()[layer.digest] == size
    assert front.received("PATCH") == size


def test_an_empty_blob_arrives(front, key, blobs):
    push(front.host, key, blobs, layer_of(blobs, 0))
    assert front.received("PATCH") == 0


def test_what_is_there_already_is_not_sent_again(front, key, blobs):
    layer = layer_of(blobs)
    push(front.host, key, blobs, layer)
    before = len(front.seen)
    push(front.host, key, blobs, layer)
    assert {seen.method for seen in front.seen[before:]} <= {"HEAD", "GET"}


@pytest.mark.parametrize("after", [1, 40_000, PART])
def test_a_line_that_breaks_in_mid_part_is_mended(registry, front, key, blobs, after):
    layer = layer_of(blobs)
    front.accidents += [Accident("POST"), Accident("PATCH", after=after), Accident("PUT")]
    push(front.host, key, blobs, layer)
    assert registry.blobs()[layer.digest] == layer.size


def test_after_a_break_between_two_parts_it_goes_on_and_no_byte_is_sent_twice(registry, front, key, blobs):
    layer = layer_of(blobs)

    class Third(Accident):
        def befalls(self, seen):
            return super().befalls(seen) and front.count("PATCH") == 3

    front.accidents.append(Third("PATCH"))
    push(front.host, key, blobs, layer)
    assert front.accidents[0].times == 0
    assert registry.blobs()[layer.digest] == layer.size
    assert front.received("PATCH") == layer.size


def test_an_answer_to_a_commit_that_is_lost_is_no_second_upload(registry, front, key, blobs):
    layer = layer_of(blobs)
    front.accidents.append(Accident("PUT", status=504))
    push(front.host, key, blobs, layer)
    assert registry.blobs()[layer.digest] == layer.size
    assert front.received("PATCH") == layer.size


def test_tokens_that_have_expired_are_fetched_anew_in_the_middle(registry, front, key, blobs):
    layer = layer_of(blobs)

    class Forgetful(Accident):
        def befalls(self, seen):
            if seen.method == "PATCH" and front.count("PATCH") % 2:
                front.tokens.clear()
            return False

    front.accidents.append(Forgetful("PATCH"))
    push(front.host, key, blobs, layer)
    assert registry.blobs()[layer.digest] == layer.size
    assert front.count("GET", "^/token") > 2


@pytest.mark.parametrize("name", ["grace/model", "library/model"])
def test_elsewhere_than_in_ones_own_namespace_nothing_can_be_pushed(front, key, blobs, name):
    with pytest.raises(RegistryError, match=r"^unauthorized: access denied$") as error:
        push(front.host, key, blobs, layer_of(blobs), name)
    assert error.value.status == 403
    assert front.received("PATCH") == 0


def test_a_key_that_the_registry_does_not_know_may_push_nothing(front, blobs, tmp_path):
    with pytest.raises(RegistryError, match=r"^unauthorized: access denied$"):
        push(front.host, KeyPair(tmp_path / "stranger"), blobs, layer_of(blobs))


def test_a_layer_of_another_repository_is_mounted(registry, front, key, blobs):
    layer = layer_of(blobs)
    push(registry.host, key, blobs, layer, "library/base")
    derived = Layer(layer.media_type, layer.digest, layer.size, f"{front.host}/library/base")
    before = registry.uploads()
    push(front.host, key, blobs, derived)
    assert front.count("POST", f"mount={layer.digest.replace(':', '%3A')}&from=library%2Fbase") == 2
    assert front.received("PATCH") == 0
    assert registry.uploads() == before


def test_a_layer_of_a_repository_that_one_may_not_read_is_sent(registry, front, key, blobs):
    layer = layer_of(blobs)
    push(registry.host, key, blobs, layer, "grace/secret")
    front.private.add("grace/secret")
    derived = Layer(layer.media_type, layer.digest, layer.size, f"{front.host}/grace/secret")
    push(front.host, key, blobs, derived)
    assert front.received("PATCH") == layer.size


def test_a_layer_whose_repository_has_lost_it_is_sent(registry, front, key, blobs):
    layer = layer_of(blobs, from_=f"{front.host}/library/empty")
    push(front.host, key, blobs, layer)
    assert registry.blobs()[layer.digest] == layer.size


def test_a_registry_that_takes_nothing_says_so(tmp_path, key, blobs):
    with (
        docker_registry(tmp_path / "registry", read_only=True) as registry,
        pytest.raises(RegistryError, match=r"^405: .+"),
    ):
        push(registry.host, key, blobs, layer_of(blobs))


def test_a_registry_whose_disk_fails_is_asked_again_and_then_told_of(tmp_path, key, blobs):
    with docker_registry(tmp_path / "registry") as registry:
        place = registry.folder / "docker" / "registry" / "v2"
        place.mkdir(parents=True)
        (place / "repositories").write_text("a file, where a folder must be")
        with pytest.raises(RegistryError, match=r"^max retries exceeded: 500: .+"):
            push(registry.host, key, blobs, layer_of(blobs))


def test_a_registry_that_died_is_given_the_rest_when_it_is_back(tmp_path, key, blobs):
    layers = [layer_of(blobs), layer_of(blobs)]
    with docker_registry(tmp_path / "registry") as registry:
        port = int(registry.host.rpartition(":")[2])
        push(registry.host, key, blobs, layers[0])
        registry.kill()
        with pytest.raises(RegistryError, match=r"^max retries exceeded: .*127\.0\.0\.1"):
            push(registry.host, key, blobs, layers[1])
    with docker_registry(tmp_path / "registry", port=port) as registry, registry_front(registry.url) as front:
        for layer in layers:
            push(front.host, key, blobs, layer)
        assert front.received("PATCH") == layers[1].size


def test_an_upload_that_is_given_up_leaves_nothing_at_the_registry(registry, front, key, blobs):
    async def main():
        layer = layer_of(blobs, 4_000_000)
        loop, under_way = asyncio.get_running_loop(), asyncio.Event()

        class Telling(Accident):
            def befalls(self, seen):
                if seen.method == "PATCH" and front.count("PATCH") == 2:
                    loop.call_soon_threadsafe(under_way.set)
                return False

        front.accidents.append(Telling("PATCH"))
        async with repository(front.host, key) as there:
            task = asyncio.create_task(Upload(there, blobs, layer, part=1_000_000).run())
            await under_way.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert layer.digest not in registry.blobs()

    asyncio.run(main())
    assert front.count("DELETE", "/blobs/uploads/") == 1
