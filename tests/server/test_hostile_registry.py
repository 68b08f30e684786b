"""What a hostile registry can do to a server that pulls from it: nothing but have the pull fail.

A real server pulls over loopback from a registry of the tests' own that lies. The table of what the client saw is
printed at the end (``-s``). A body that crawls, and one that always ends early, take the server's patience of minutes:
they are shown with less of it in ``tests/registry``.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from certificates import Certificate
from hostile_registry import (
    CONFIG_TYPE,
    Answer,
    HostileRegistry,
    blob,
    digest_of,
    endless,
    layer,
    manifest,
    redirect,
)
from http_calls import client, complaints, lines, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx2

CONTENT = b"GGUF, as far as anybody knows" * 1000
OTHER = bytes(reversed(CONTENT))
CONFIG = json.dumps({"model_format": "gguf"}).encode()
GOOD = layer(CONTENT)
SETTINGS = layer(CONFIG, CONFIG_TYPE)
HONEST = {digest_of(CONTENT): blob(CONTENT), digest_of(CONFIG): blob(CONFIG)}
HEX = hashlib.sha256(CONTENT).hexdigest()
MISMATCH = "digest mismatch, file must be downloaded again"
METADATA = "http://169.254.169.254/latest/meta-data/"


class Case(NamedTuple):
    """A manifest and blobs, or a function that arranges worse, and what the client must be told."""

    offered: Any
    expected: str
    blobs: dict[str, Any] = HONEST


def with_digest(digest: Any) -> dict[str, Any]:
    """A manifest of one layer under such a digest."""
    return manifest({**GOOD, "digest": digest}, config=SETTINGS)


def with_size(size: Any) -> dict[str, Any]:
    """A manifest of one layer of such a size."""
    return manifest({**GOOD, "size": size}, config=SETTINGS)


def with_blob(answer: Any) -> dict[str, Any]:
    """The model's blob as the registry gives it."""
    return {**HONEST, digest_of(CONTENT): answer}


def challenge(realm: Callable[[HostileRegistry], str]) -> Callable[[HostileRegistry, str], None]:
    """A manifest that wants a token from such a realm."""

    def arrange(registry: HostileRegistry, repository: str) -> None:
        header = f'Bearer realm="{realm(registry)}",service="s",scope="repository:x:pull"'
        registry.offer(repository, Answer(401, headers={"WWW-Authenticate": header}))

    return arrange


def loop(registry: HostileRegistry, repository: str) -> None:
    """A blob that is kept where it is not."""
    place = f"/v2/{repository}/blobs/{digest_of(CONTENT)}"
    registry.offer(repository, manifest(GOOD, config=SETTINGS), with_blob(redirect(place)))


def many_layers(count: int) -> bytes:
    """A manifest with layers that nobody has."""
    entries = [{"mediaType": "x", "digest": f"sha256:{number:064x}", "size": 1} for number in range(count)]
    return json.dumps(manifest(*entries, config=SETTINGS), separators=(",", ":")).encode()


GOOD_MANIFEST = manifest(GOOD, config=SETTINGS)
NO_DIGEST = {name: value for name, value in GOOD.items() if name != "digest"}

CASES = {
    "digest missing": Case(manifest(NO_DIGEST, config=SETTINGS), "missing required field `digest`"),
    "digest empty": Case(with_digest(""), "invalid digest format"),
    "digest null": Case(with_digest(None), "digest"),
    "digest a number": Case(with_digest(17), "digest"),
    "digest without digits": Case(with_digest("sha256:"), "invalid digest format"),
    "digest of 63 digits": Case(with_digest(f"sha256:{HEX[:63]}"), "invalid digest format"),
    "digest of 65 digits": Case(with_digest(f"sha256:{HEX}0"), "invalid digest format"),
    "digest not hex": Case(with_digest(f"sha256:{'g' * 64}"), "invalid digest format"),
    "digest with NUL": Case(with_digest(f"sha256:{HEX}\0"), "invalid digest format"),
    "digest a path": Case(with_digest("sha256:../../../../etc/passwd"), "invalid digest format"),
    "digest a path of 64": Case(with_digest("sha256:" + "../" * 21 + "x"), "invalid digest format"),
    "digest in capitals": Case(with_digest(f"sha256:{HEX.upper()}"), "invalid digest format"),
    "digest with a dash": Case(with_digest(f"sha256-{HEX}"), "invalid digest format"),
    "digest of SHA-512": Case(with_digest(f"sha512:{'0' * 128}"), "invalid digest format"),
    "config's digest a path": Case(manifest(GOOD, config={**SETTINGS, "digest": "../x"}), "invalid digest format"),
    "digest twice, content wrong": Case(
        manifest(GOOD, GOOD, config=SETTINGS), MISMATCH, with_blob(blob(OTHER))
    ),
    "digest twice, sizes differ": Case(
        manifest(GOOD, {**GOOD, "size": 1}, config=SETTINGS), "is listed with two sizes"
    ),
    "manifest HTML": Case(
        Answer(body=b"<html>Log in</html>", headers={"Content-Type": "text/html"}), "(text/html) is not JSON"
    ),
    "manifest not JSON": Case(b"what?", "is not JSON"),
    "manifest empty": Case(b"", "is not JSON"),
    "manifest cut short": Case(json.dumps(GOOD_MANIFEST).encode()[:-10], "is not JSON"),
    "manifest nested": Case(b'{"layers":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "is not JSON"),
    "manifest 5 MiB": Case(b" " * (5 << 20), "more than the 4194304"),
    "manifest endless": Case(lambda _asked: Answer(body=endless(b" " * 65536), length=None), "more than the 4194304"),
    "manifest a gzip bomb": Case(
        Answer(body=gzip.compress(b" " * (50 << 20)), headers={"Content-Encoding": "gzip"}), "answers packed ('gzip')"
    ),
    "manifest a list": Case(b"[]", "got `array`"),
    "manifest a text": Case(b'"x"', "got `str`"),
    "manifest without config": Case({"schemaVersion": 2, "layers": [GOOD]}, "missing required field `config`"),
    "manifest with 100,000 layers": Case(many_layers(100_000), "more than the 4194304"),
    "manifest with 35,000 layers": Case(many_layers(35_000), "file does not exist"),
    "manifest with control characters": Case(
        Answer(400, b"\x1b[2J\x1b]0;owned\x07 \xe2\x80\xaeno"), "400: [2J ]0;owned no"
    ),
    "size negative": Case(with_size(-1), "negative size"),
    "size a text": Case(with_size("1"), "size"),
    "size a fraction": Case(with_size(1.5), "size"),
    "size 2^70": Case(with_size(2**70), "not enough disk space"),
    "size 2^63 - 1": Case(with_size(2**63 - 1), "not enough disk space"),
    "size a petabyte": Case(with_size(10**15), "not enough disk space"),
    "size one less": Case(with_size(len(CONTENT) - 1), f"states {len(CONTENT)} bytes, the manifest {len(CONTENT) - 1}"),
    "size one more": Case(with_size(len(CONTENT) + 1), f"states {len(CONTENT)} bytes, the manifest {len(CONTENT) + 1}"),
    "size nothing": Case(with_size(0), MISMATCH),
    "blob shorter": Case(GOOD_MANIFEST, "states 100 bytes", with_blob(Answer(body=CONTENT[:100]))),
    "blob longer": Case(GOOD_MANIFEST, f"states {len(CONTENT) + 1} bytes", with_blob(Answer(body=CONTENT + b"x"))),
    "blob of other content": Case(GOOD_MANIFEST, MISMATCH, with_blob(blob(OTHER))),
    "blob not there": Case(GOOD_MANIFEST, "file does not exist", with_blob(Answer(404))),
    "blob out of range": Case(
        GOOD_MANIFEST, "has no bytes from 0 on", with_blob(Answer(416, headers={"Content-Range": "bytes */0"}))
    ),
    "blob of another range": Case(
        GOOD_MANIFEST,
        "the registry sends 5-9",
        with_blob(Answer(206, b"x" * 5, {"Content-Range": f"bytes 5-9/{len(CONTENT)}"})),
    ),
    "blob endless": Case(
        GOOD_MANIFEST, "sends more bytes", with_blob(lambda _asked: Answer(body=endless(b"xyz" * 999), length=None))
    ),
    "blob a gzip bomb": Case(
        GOOD_MANIFEST,
        "answers packed ('gzip')",
        with_blob(Answer(body=gzip.compress(b" " * (50 << 20)), headers={"Content-Encoding": "gzip"})),
    ),
    "blob redirected in a circle": Case(loop, "maximum redirects exceeded (10)"),
    "blob redirected to the cloud's secrets": Case(
        GOOD_MANIFEST, "no registry keeps anything at such an address", with_blob(redirect(METADATA))
    ),
    "blob redirected to a file": Case(
        GOOD_MANIFEST, "it is neither http nor https", with_blob(redirect("file:///etc/passwd"))
    ),
    "blob redirected to FTP": Case(
        GOOD_MANIFEST, "it is neither http nor https", with_blob(redirect("ftp://127.0.0.1/x"))
    ),
    "blob redirected to nowhere": Case(GOOD_MANIFEST, "no Location header in response", with_blob(Answer(307))),
    "manifest redirected to the cloud's secrets": Case(
        redirect(METADATA), "no registry keeps anything at such an address"
    ),
    "realm of another host": Case(
        challenge(lambda _: "https://evil.example/token"), 'realm host "evil.example" does not match original host'
    ),
    "realm on another port": Case(
        challenge(lambda registry: f"http://127.0.0.1:{registry.port - 1}/token"), "does not match original host"
    ),
    "realm a file": Case(challenge(lambda _: "file:///etc/passwd"), "does not match original host"),
    "realm in its own name, over and over": Case(
        challenge(lambda registry: f"{registry.url}/token"), "unauthorized: access denied"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return Certificate.make(tmp_path_factory.mktemp("certificates"), "registry")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("pulling")


@pytest.fixture(scope="module")
def puller(folder, certificate, start) -> Iterator[httpx2.Client]:
    """A server of its own, which trusts the certificate of the registry that has one."""
    with start(folder, SSL_CERT_FILE=str(certificate.cert)) as running, client(running.url) as calls:
        yield calls
        assert not complaints(running)


@pytest.fixture(scope="module")
def registry() -> Iterator[HostileRegistry]:
    with HostileRegistry() as server:
        server.answers["/token"] = Answer(body=b'{"token": "never-good"}')
        yield server


@pytest.fixture(scope="module")
def seen() -> Iterator[list[tuple[str, str, float]]]:
    """What the clients saw, printed as a table at the end."""
    rows: list[tuple[str, str, float]] = []
    yield rows
    print("\n\ncase | what the client saw | seconds")
    for case, text, seconds in rows:
        print(f"{case} | {text} | {seconds:.2f}")


def blobs(folder: Path) -> set[Path]:
    """The files that stand under a digest's name."""
    return {path for path in (folder / "models" / "blobs").iterdir() if re.fullmatch(r"sha256-[0-9a-f]{64}", path.name)}


def manifests(folder: Path) -> set[Path]:
    return {path for path in (folder / "models" / "manifests").rglob("*") if path.is_file()}


def outside(folder: Path) -> set[Path]:
    """What there is beside the store."""
    return set(folder.iterdir()) | set((folder / "models").iterdir())


def pull(puller: httpx2.Client, name: str) -> tuple[list[str], str]:
    """The status lines of a pull, and the error at its end."""
    answer = lines(puller.post("/api/pull", json={"model": name, "insecure": True}))
    return [line["status"] for line in answer[:-1]], answer[-1].get("error", "no error")


@pytest.fixture(autouse=True)
def _from_the_beginning(folder) -> Iterator[None]:
    """No pull goes on with what another one has left."""
    yield
    for path in (folder / "models" / "blobs").glob("*-partial*"):
        path.unlink()


def check_unharmed(puller, folder, before) -> None:
    """The server answers, lists what it listed, and has nothing under a digest's name that is not what it says."""
    assert puller.get("/api/version").status_code == 200
    assert [model["name"] for model in puller.get("/api/tags").json()["models"]] == ["smollm2:135m"]
    old_blobs, old_manifests, old_outside = before
    for path in blobs(folder) - old_blobs:
        # A blob that is what its name says may stay for the next pull, whatever came of this one.
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name.removeprefix("sha256-")
        path.unlink()
    assert manifests(folder) == old_manifests
    assert {path.name for path in outside(folder) - old_outside} <= {".ollama_nb-sessions", ".ollama_nb.lock"}


@pytest.mark.parametrize("name", CASES)
def test_a_pull_from_a_hostile_registry_fails_and_leaves_nothing(puller, folder, registry, seen, name):
    case = CASES[name]
    repository = f"ns/{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}"
    if callable(case.offered) and case.offered.__name__ in ("arrange", "loop"):
        case.offered(registry, repository)
    else:
        registry.offer(repository, case.offered, case.blobs)
    before = blobs(folder), manifests(folder), outside(folder)
    began = time.monotonic()
    statuses, error = pull(puller, f"{registry.host}/{repository}")
    seen.append((name, error if len(error) < 200 else f"{error[:200]}…", time.monotonic() - began))
    assert statuses[0] == "pulling manifest"
    assert "success" not in statuses
    assert case.expected in error
    assert error.isprintable()
    check_unharmed(puller, folder, before)
    until(lambda: registry.busy == 0, "the server has left the registry")


def test_a_registry_with_a_certificate_may_not_have_its_tokens_fetched_without(puller, folder, certificate, seen):
    before = blobs(folder), manifests(folder), outside(folder)
    with HostileRegistry(certificate) as secure:
        challenge(lambda registry: f"http://{registry.host}/token")(secure, "ns/model")
        answer = lines(puller.post("/api/pull", json={"model": f"{secure.host}/ns/model"}))
        error = answer[-1]["error"]
        seen.append(("realm https to http", error, 0.0))
        assert f'realm host "http://{secure.host}" does not match original host "https://{secure.host}"' in error
        assert secure.paths() == ["GET /v2/ns/model/manifests/latest"]
    check_unharmed(puller, folder, before)


def test_a_registry_with_a_certificate_may_not_send_us_where_there_is_none(puller, folder, certificate, registry, seen):
    before = blobs(folder), manifests(folder), outside(folder)
    with HostileRegistry(certificate) as secure:
        secure.offer("ns/model", GOOD_MANIFEST, with_blob(redirect(f"{registry.url}/stored")))
        answer = lines(puller.post("/api/pull", json={"model": f"{secure.host}/ns/model"}))
        error = answer[-1]["error"]
        seen.append(("blob redirected from https to http", error, 0.0))
        assert error.endswith("which is refused: https must not become http")
    check_unharmed(puller, folder, before)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_the_same_registry_is_believed_where_it_tells_the_truth(puller, folder, registry, stream):
    registry.offer("ns/honest", GOOD_MANIFEST, HONEST)
    name = f"{registry.host}/ns/honest"
    answer = lines(puller.post("/api/pull", json={"model": name, "insecure": True, "stream": stream}))
    assert answer[-1] == {"status": "success"}
    assert digest_of(CONTENT).replace(":", "-") in {path.name for path in blobs(folder)}
    assert puller.request("DELETE", "/api/delete", json={"model": name}).status_code == 200


def test_an_error_of_a_pull_that_is_not_streamed_has_a_status(puller, registry):
    registry.offer("ns/gone", Answer(404))
    registry.offer("ns/broken", b"what?")
    statuses = [
        puller.post(
            "/api/pull", json={"model": f"{registry.host}/ns/{model}", "insecure": True, "stream": False}
        ).status_code
        for model in ("gone", "broken")
    ]
    assert statuses == [404, 502]


def test_hostile_pulls_at_once_do_not_keep_an_honest_one(puller, folder, registry):
    """Eight clients pull rubbish while one pulls a model."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - only here

    registry.offer("ns/rubbish", GOOD_MANIFEST, with_blob(lambda _asked: Answer(body=endless(b"xyz"), length=None)))
    registry.offer("ns/honest", manifest(layer(OTHER), config=SETTINGS), {**HONEST, digest_of(OTHER): blob(OTHER)})
    names = [f"{registry.host}/ns/rubbish"] * 8 + [f"{registry.host}/ns/honest"]
    with ThreadPoolExecutor(len(names)) as threads:
        results = list(threads.map(lambda name: pull(puller, name), names))
    # Who comes later goes on with what an earlier one has left, all of it wrong.
    assert {error.partition(":")[0] for _, error in results[:8] if "sends more bytes" not in error} <= {MISMATCH}
    assert results[8][1] == "no error"
    assert puller.request("DELETE", "/api/delete", json={"model": names[8]}).status_code == 200
    assert not list(itertools.islice((path for path in blobs(folder) if path.stat().st_size == len(CONTENT)), 1))
