"""Models pushed to a real registry and pulled back, by real servers; what stands between them may break."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import ssl
from contextlib import closing
from pathlib import Path

import httpx2
import pytest
from certificates import Certificate
from connect_proxy import connect_proxy
from docker_registry import docker_registry
from gguf_files import gguf_bytes
from http_calls import MODEL, client, complaints, lines, question, received_lines, send, until
from registry_front import Accident, registry_front
from samples import SMOLLM2_SHA256

from ollama_nb.client import start_server
from ollama_nb.registry.keys import KeyPair
from ollama_nb.registry.source import Patience
from ollama_nb.registry.transport import Transport
from ollama_nb.server.listener import open_listener
from ollama_nb.service.runtime import Runtime
from ollama_nb.settings import Settings

WEIGHTS = f"sha256:{SMOLLM2_SHA256}"
LITTLE_PATIENCE = Patience(connect=5, stall=20, tries=2, first_wait=0.001, longest_wait=0.002)


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """The registry of this module; each test has repositories of its own."""
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def front(registry):
    """A front that lets everybody do everything."""
    with registry_front(registry.url) as running:
        yield running


@pytest.fixture
def guarded(registry):
    """A front that lets the user of the servers under test push to ``me``, and everybody pull what is public."""
    key = KeyPair(Path(os.environ["OLLAMA_NB_HOME"]))
    with registry_front(registry.url, keys={key.public_text: {"me"}}) as running:
        yield running


@pytest.fixture(scope="module")
def other_store(tmp_path_factory):
    return tmp_path_factory.mktemp("elsewhere") / "models"


@pytest.fixture(scope="module")
def elsewhere(other_store, start):
    """Another machine, so to speak: a server whose store (``other_store``) is empty."""
    other_store.mkdir()
    with start(other_store.parent) as running, client(running.url) as calls:
        yield calls
        assert not complaints(running)


@pytest.fixture
def small(bench):
    """Makes a model of 4 MB that nobody can run, with a system message; it is gone after the test."""
    made = []

    def make(name):
        made.append(name)
        return make_small(bench, name)

    yield make
    for name in made:
        delete(bench, name)


def make_small(calls, name):
    tensor = ("token_embd.weight", "F32", (1024, 1024))
    data = gguf_bytes({"general.architecture": "llama", "general.name": name}, [tensor])
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    calls.post(f"/api/blobs/{digest}", content=data)
    answer = calls.post("/api/create", json={"model": name, "files": {"m.gguf": digest}, "system": f"I am {name}"})
    assert lines(answer)[-1] == {"status": "success"}
    return name


def push(calls, name, **fields):
    return lines(calls.post("/api/push", json={"model": name, "insecure": True, **fields}))


def pull(calls, name, **fields):
    return lines(calls.post("/api/pull", json={"model": name, "insecure": True, **fields}))


def delete(calls, name):
    return calls.request("DELETE", "/api/delete", json={"model": name}).status_code


def digest_of(calls, name):
    """The digest of a model's manifest, None where there is no such model."""
    return {model["name"]: model["digest"] for model in calls.get("/api/tags").json()["models"]}.get(name)


def blobs_of(store, name):
    """The digests and sizes of what a model has, read from its manifest."""
    host, namespace, rest = name.split("/")
    model, tag = rest.split(":")
    manifest = httpx2.Response(200, content=(store / "manifests" / host / namespace / model / tag).read_bytes()).json()
    return {layer["digest"]: layer["size"] for layer in [*manifest["layers"], manifest["config"]]}


def statuses(steps):
    """The status lines, each once where it is repeated."""
    texts = [step.get("status") for step in steps]
    return [text for text, before in zip(texts, [None, *texts], strict=False) if text != before]


# -- there and back ----------------------------------------------------------------------------------------------------


@pytest.fixture
def smollm2(bench, guarded):
    """The sample model under a name of the guarded registry."""
    name = f"{guarded.host}/me/smollm2:135m"
    bench.post("/api/copy", json={"source": MODEL, "destination": name})
    yield name
    assert delete(bench, name) == 200


def test_a_push_tells_every_layer_and_the_registry_has_them_all(bench, guarded, registry, workshop_store, smollm2):
    blobs = blobs_of(workshop_store, smollm2)
    steps = push(bench, smollm2)
    told = statuses(steps)
    assert told[0] == "retrieving manifest"
    assert told[-2:] == ["pushing manifest", "success"]
    assert set(told[1:-2]) == {f"pushing {digest[7:19]}" for digest in blobs}
    for digest, size in blobs.items():
        of_it = [step for step in steps if step.get("digest") == digest]
        assert {step["total"] for step in of_it} == {size}
        assert of_it[-1]["completed"] == size
    assert WEIGHTS in blobs
    assert registry.blobs().items() >= blobs.items()
    assert guarded.received("PATCH") == sum(blobs.values())
    assert hashlib.sha256(registry.manifest("me/smollm2", "135m")).hexdigest() == digest_of(bench, smollm2)


def test_what_was_pushed_comes_back_elsewhere_as_what_it_was(bench, elsewhere, other_store, smollm2, unloaded):
    push(bench, smollm2)
    assert digest_of(elsewhere, smollm2) is None
    told = statuses(pull(elsewhere, smollm2))
    blobs = blobs_of(other_store, smollm2)
    assert told[0] == "pulling manifest"
    assert told[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
    assert set(told[1:-3]) == {f"pulling {digest[7:19]}" for digest in blobs}
    assert digest_of(elsewhere, smollm2) == digest_of(bench, smollm2)
    assert {path.name for path in (other_store / "blobs").iterdir()} == {one.replace(":", "-") for one in blobs}
    asked = {**question("What is the capital of France?"), "model": smollm2, "stream": False}
    answers = [calls.post("/api/chat", json=asked).json()["message"] for calls in (bench, elsewhere)]
    assert answers[0] == answers[1]
    assert answers[0]["content"]
    assert delete(elsewhere, smollm2) == 200
    assert list((other_store / "blobs").iterdir()) == []
    unloaded(smollm2)


def test_a_model_made_of_another_one_shares_what_the_registry_has(bench, guarded, small, workshop_store):
    base, derived = f"{guarded.host}/me/base:1", f"{guarded.host}/me/pirate:1"
    small(base)
    push(bench, base)
    bench.post("/api/create", json={"model": derived, "from": base, "system": "You are a pirate."})
    new = blobs_of(workshop_store, derived).items() - blobs_of(workshop_store, base).items()
    before = guarded.received("PATCH")
    steps = push(bench, derived)
    assert steps[-1] == {"status": "success"}
    assert guarded.received("PATCH") - before == sum(size for _, size in new)
    assert guarded.count("POST", "mount=sha256.*&from=me%2Fbase") > 0
    delete(bench, derived)


def test_what_was_pushed_is_not_sent_again(bench, front, small):
    name = small(f"{front.host}/me/again:1")
    push(bench, name)
    before = len(front.seen)
    steps = push(bench, name)
    assert steps[-1] == {"status": "success"}
    told = [step for step in steps if "digest" in step]
    assert len(told) == len({step["digest"] for step in told})
    assert all(step["completed"] == step["total"] for step in told)
    assert {seen.method for seen in front.seen[before:]} == {"HEAD", "PUT"}
    assert front.count("PUT", "/manifests/1$") == 2


def test_what_was_pulled_is_not_fetched_again(bench, elsewhere, front, small):
    name = small(f"{front.host}/me/twice:1")
    push(bench, name)
    pull(elsewhere, name)
    before = len(front.seen)
    assert pull(elsewhere, name)[-1] == {"status": "success"}
    assert [seen.path for seen in front.seen[before:]] == ["/v2/me/twice/manifests/1"]
    delete(elsewhere, name)


def test_a_tag_that_has_moved_on_is_followed_and_the_old_layers_go(bench, elsewhere, front, small, other_store):
    name = small(f"{front.host}/me/moving:1")
    push(bench, name)
    pull(elsewhere, name)
    first = blobs_of(other_store, name)
    bench.post("/api/create", json={"model": name, "from": name, "system": "newer"})
    push(bench, name)
    assert "removing unused layers" in statuses(pull(elsewhere, name))
    assert digest_of(elsewhere, name) == digest_of(bench, name)
    gone = first.keys() - blobs_of(other_store, name).keys()
    assert gone
    assert not any((other_store / "blobs" / digest.replace(":", "-")).exists() for digest in gone)
    delete(elsewhere, name)


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_a_model_that_is_not_here_cannot_be_pushed(bench, front):
    name = f"{front.host}/me/nobody:1"
    steps = push(bench, name)
    assert [step["status"] for step in steps[:2]] == ["retrieving manifest", "couldn't retrieve manifest"]
    assert steps[2]["error"] == f"model '{name}' not found"
    assert len(steps) == 3
    answer = bench.post("/api/push", json={"model": name, "insecure": True, "stream": False})
    assert (answer.status_code, answer.json()["error"]) == (404, f"model '{name}' not found")
    assert front.seen == []


@pytest.mark.parametrize("step", ["POST /uploads/", "PATCH /uploads/", "PUT /uploads/", "PUT /manifests/"])
def test_a_refusal_is_told_in_the_registrys_words(bench, front, small, step):
    name = small(f"{front.host}/me/refused:{step[:2].lower()}{len(step)}")
    body = '{"errors":[{"code":"DENIED","message":"not in this house"}]}'
    front.accidents.append(Accident(*step.split(), status=403, body=body, times=99))
    assert push(bench, name)[-1]["error"] == "403: not in this house"
    front.accidents.clear()
    assert push(bench, name)[-1] == {"status": "success"}


def test_a_name_that_the_registry_does_not_take_is_told(bench, front, small):
    error = push(bench, small(f"{front.host}/me/Capital:1"))[-1]
    assert error["error"].startswith("127.0.0.1:")
    assert "takes nothing under the name me/Capital: 404: " in error["error"]
    assert "small letters" in error["hint"]


def test_a_registry_that_can_only_be_read_says_so(bench, small, tmp_path):
    with docker_registry(tmp_path / "registry", read_only=True) as registry:
        name = small(f"{registry.host}/me/read-only:1")
        assert push(bench, name)[-1]["error"].startswith("405: ")


def test_elsewhere_than_in_ones_own_namespace_access_is_denied(bench, guarded, small):
    name = small(f"{guarded.host}/grace/model:1")
    assert push(bench, name)[-1]["error"] == "unauthorized: access denied"
    answer = bench.post("/api/push", json={"model": name, "insecure": True, "stream": False})
    assert (answer.status_code, answer.json()["error"]) == (403, "unauthorized: access denied")


def test_what_is_private_can_be_pulled_with_the_right_key_only(bench, elsewhere, guarded, small, tmp_path):
    name = small(f"{guarded.host}/me/diary:1")
    push(bench, name)
    guarded.private.add("me/diary")
    assert pull(elsewhere, name)[-1] == {"status": "success"}
    delete(elsewhere, name)
    with registry_front(guarded.upstream, keys={KeyPair(tmp_path).public_text: {"me"}}) as others:
        others.private.add("me/diary")
        steps = pull(elsewhere, f"{others.host}/me/diary:1")
    assert steps[-1]["error"] == "pull model manifest: unauthorized: access denied"


def test_a_client_that_leaves_ends_the_push_there_too(bench, workshop, front):
    name = f"{front.host}/me/left:1"
    bench.post("/api/copy", json={"source": MODEL, "destination": name})
    # Of all layers, since any may come first; only the weights are long enough for it.
    front.accidents.append(Accident("PATCH", after=1_000_000, hold=True, times=9))
    with closing(send(workshop.url, "/api/push", {"model": name, "insecure": True})) as connection:
        steps = received_lines(connection)
        until(lambda: front.received("PATCH") >= 1_000_000, "the weights are on their way")
        assert next(steps) == {"status": "retrieving manifest"}
        steps.close()  # it holds the connection open
    until(lambda: front.count("DELETE", "/uploads/"), "the upload is cancelled")
    delete(bench, name)


@contextlib.asynccontextmanager
async def impatient_server(folder):
    """A server of this very process that does not wait half a minute for a registry to come back."""
    chosen = {"host": "127.0.0.1:0", "models": folder / "models", "nb_home": folder / "home"}
    runtime = Runtime(Settings.resolve({}, chosen))
    runtime.transfers.transport = Transport(LITTLE_PATIENCE)
    await runtime.start()
    listener = open_listener(runtime)
    try:
        yield listener.url
    finally:
        await runtime.close()
        await listener.close()


def test_after_the_registry_has_died_a_second_push_sends_only_the_rest(tmp_path, make_store):
    def work(url):
        with contextlib.ExitStack() as stack:
            calls = stack.enter_context(client(url))
            registry = stack.enter_context(docker_registry(tmp_path / "registry"))
            front = stack.enter_context(registry_front(registry.url))
            name = f"{front.host}/me/smollm2:135m"
            calls.post("/api/copy", json={"source": MODEL, "destination": name})
            blobs = blobs_of(tmp_path / "models", name)
            front.accidents.append(Accident("PATCH", after=1_000_000, hold=True, times=9))
            with closing(send(url, "/api/push", {"model": name, "insecure": True})) as connection:
                until(lambda: len(registry.blobs()) == len(blobs) - 1, "all but the weights are there")
                registry.kill()
                front.release()
                *_, last = received_lines(connection)
            assert last["error"].startswith("max retries exceeded: ")
            port = int(registry.host.rpartition(":")[2])
            stack.enter_context(docker_registry(tmp_path / "registry", port=port))
            front.seen.clear()
            assert push(calls, name)[-1] == {"status": "success"}
            assert front.received("PATCH") == blobs[WEIGHTS]

    async def main():
        make_store(tmp_path / "models")
        async with impatient_server(tmp_path) as url:
            await asyncio.to_thread(work, url)

    asyncio.run(main())


# -- certificates and proxies ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def machine():
    """This machine by a name that is not that of the loopback, and its address."""
    name = socket.gethostname()
    try:
        return name, socket.gethostbyname(name)
    except OSError:
        pytest.skip(f"the name of this machine, {name}, has no address")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory, machine):
    """Signed by nobody but itself: whoever trusts it trusts an authority of one's own."""
    names = f"DNS:localhost,IP:127.0.0.1,DNS:{machine[0]}"
    return Certificate.make(tmp_path_factory.mktemp("tls"), "registry", names=names)


@pytest.fixture
def secret(registry, certificate, machine):
    """A front that speaks https."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.cert, certificate.key)
    with registry_front(registry.url, tls=context, address=machine[1]) as running:
        yield running


@contextlib.contextmanager
def small_server(folder, name, **env):
    """A server with one small model."""
    with start_server({"OLLAMA_MODELS": str(folder / "models"), **env}) as server, client(server.url) as calls:
        make_small(calls, name)
        yield calls
        assert not complaints(server)


def round_trip(calls, name):
    """Pushes a model, deletes it, and pulls it back."""
    digest = digest_of(calls, name)
    assert push(calls, name, insecure=False)[-1] == {"status": "success"}
    delete(calls, name)
    assert pull(calls, name, insecure=False)[-1] == {"status": "success"}
    assert digest_of(calls, name) == digest
    assert digest


def test_https_with_an_authority_of_ones_own(secret, certificate, tmp_path, bench, small):
    name = f"{secret.host}/me/secret:1"
    with small_server(tmp_path, name, SSL_CERT_FILE=str(certificate.cert)) as calls:
        round_trip(calls, name)
    steps = push(bench, small(name), insecure=False)
    assert "is not trusted" in steps[-1]["error"]
    assert "SSL_CERT_FILE" in steps[-1]["hint"]


@pytest.mark.parametrize("repository", ["proxied", "exempt"])
def test_a_proxy_is_used_as_the_environment_says(secret, certificate, machine, tmp_path, repository):
    host = f"{machine[0]}:{secret.port}"
    exempt = repository == "exempt"
    with connect_proxy((machine[1], secret.port)) as proxy:
        env = {
            "SSL_CERT_FILE": str(certificate.cert),
            "HTTPS_PROXY": proxy.url,
            "NO_PROXY": f"127.0.0.1,{machine[0]}" if exempt else "127.0.0.1",
        }
        with small_server(tmp_path, f"{host}/me/{repository}:1", **env) as calls:
            round_trip(calls, f"{host}/me/{repository}:1")
        assert set(proxy.targets) == (set() if exempt else {host})
    assert secret.count("PATCH") > 0
