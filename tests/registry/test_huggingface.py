"""The hub as a source of files: what is asked of it and shown to it, and what its refusals become."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import pytest
from hub_standin import TOKEN, HubStandin, Trouble
from huggingface_hub import constants

from ollama_nb.registry.huggingface import Hub, is_hub
from ollama_nb.registry.source import LineError, Patience
from ollama_nb.registry.transport import Transport
from ollama_nb.wire.errors import BadRequestError, NotFoundError, OllamaError, RegistryError
from ollama_nb.wire.names import parse_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

P = ParamSpec("P")
T = TypeVar("T")

QUICK = Patience(connect=5, stall=5, tries=2, first_wait=0.01, longest_wait=0.02)
WEIGHTS = b"GGUF" + bytes(range(256)) * 4000
NAME = parse_name("hf.co/someone/M-GGUF")


def in_loop(test: Callable[P, Awaitable[T]]) -> Callable[P, T]:
    """The test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        async def whole() -> T:
            return await test(*args, **kwargs)

        return asyncio.run(whole())

    return run


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandin]:
    """A hub with one repository, for which the library takes this process's hub."""
    (tmp_path / "files").mkdir()
    with HubStandin(tmp_path / "files") as hub:
        hub.add("someone/M-GGUF", {"M.Q4_K_M.gguf": WEIGHTS, "template": "{{ .Prompt }}", "empty": ""})
        point_to(monkeypatch, hub.url, tmp_path / "home")
        yield hub


def point_to(monkeypatch: pytest.MonkeyPatch, url: str, home: Path) -> None:
    """What HF_ENDPOINT and HF_HOME do where they are set before the library is loaded."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HOME", str(home))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(home / "harnesses.json"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


async def asked(work: Callable[[Hub], Awaitable[T]]) -> T:
    transport = Transport(QUICK)
    try:
        return await work(Hub(transport))
    finally:
        await transport.aclose()


async def refused(work: Callable[[Hub], Awaitable[Any]]) -> OllamaError:
    with pytest.raises(OllamaError) as caught:
        await asked(work)
    return caught.value


async def whole(hub: Hub, start: int = 0, stop: int = len(WEIGHTS)) -> bytes:
    """The weights' bytes from one place to another, in one request."""
    model = await hub.model(NAME)
    async with hub.source(model.weights).read(start, stop, model.weights.size) as body:
        assert body.start == start
        return b"".join([chunk async for chunk in body.chunks])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf.co/u/r", True),
        ("HF.co/u/r:Q8_0", True),
        ("huggingface.co/u/r", True),
        ("https://huggingface.co/u/r", True),
        ("hf.co.example.org/u/r", False),
        ("u/r", False),
        ("hf.co", False),
    ],
)
def test_a_name_is_the_hubs_by_its_host(text: str, expected: bool) -> None:
    assert is_hub(parse_name(text)) is expected


@in_loop
async def test_a_model_is_listed_with_hashes_at_its_commit(standin: HubStandin) -> None:
    model = await asked(lambda hub: hub.model(NAME))
    stored = standin.repos["someone/M-GGUF"].files["M.Q4_K_M.gguf"]
    assert model.weights.digest == f"sha256:{stored.sha256}"
    assert model.weights.size == len(WEIGHTS)
    assert model.weights.url == f"{standin.url}/someone/M-GGUF/resolve/{'5' * 40}/M.Q4_K_M.gguf"
    assert model.template is not None
    assert model.template.digest == ""


@in_loop
async def test_ranges_come_from_where_the_hub_redirects_to(standin: HubStandin) -> None:
    assert await asked(whole) == WEIGHTS
    assert await asked(lambda hub: whole(hub, 1000, 70_000)) == WEIGHTS[1000:70_000]
    assert [request.headers["range"] for request in standin.asked if request.server == "storage"] == [
        f"bytes=0-{len(WEIGHTS) - 1}",
        "bytes=1000-69999",
    ]


@in_loop
async def test_the_token_is_shown_to_the_hub_and_to_nobody_else(
    standin: HubStandin, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin.repos["someone/M-GGUF"].private = True
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert await asked(whole) == WEIGHTS
    shown = {request.server: request.headers.get("authorization") for request in standin.asked}
    assert shown == {"hub": f"Bearer {TOKEN}", "storage": None}


@in_loop
async def test_the_token_of_a_login_is_taken(standin: HubStandin, tmp_path: Path) -> None:
    standin.repos["someone/M-GGUF"].private = True
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "token").write_text(TOKEN)
    assert await asked(whole) == WEIGHTS


@in_loop
async def test_nothing_is_kept_or_told_beside_what_is_asked_for(standin: HubStandin, tmp_path: Path) -> None:
    await asked(whole)
    assert not (tmp_path / "home").exists()
    assert [request.path.partition("?")[0] for request in standin.asked if request.server == "hub"] == [
        "/api/models/someone/M-GGUF",
        f"/someone/M-GGUF/resolve/{'5' * 40}/M.Q4_K_M.gguf",
    ]
    agents = {request.headers["user-agent"].partition("/")[0] for request in standin.asked}
    assert agents == {"ollama_nb", "ollama"}
    assert not any("torch" in request.headers["user-agent"] for request in standin.asked)


@in_loop
async def test_small_files_are_read_whole_and_no_further_than_their_limit(standin: HubStandin) -> None:
    async def template(hub: Hub) -> bytes:
        model = await hub.model(NAME)
        assert model.template is not None
        with pytest.raises(BadRequestError, match="template has 13 bytes, more than the 12 that are taken"):
            await hub.content(model.template, 12)
        return await hub.content(model.template, 13)

    assert await asked(template) == b"{{ .Prompt }}"


@in_loop
async def test_an_empty_file_is_a_file(standin: HubStandin) -> None:
    standin.add("someone/M-GGUF", {"M.gguf": WEIGHTS, "system": ""})

    async def system(hub: Hub) -> bytes:
        model = await hub.model(NAME)
        assert model.system is not None
        return await hub.content(model.system, 10)

    assert await asked(system) == b""


@pytest.mark.parametrize(
    ("token", "private", "name"),
    [
        (None, True, "hf.co/someone/M-GGUF"),
        (None, False, "hf.co/someone/other"),
        (TOKEN, False, "huggingface.co/nobody/nothing"),
    ],
)
@in_loop
async def test_what_is_not_there_or_private_is_not_found_with_advice(
    standin: HubStandin, monkeypatch: pytest.MonkeyPatch, token: str | None, private: bool, name: str
) -> None:
    standin.repos["someone/M-GGUF"].private = private
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    error = await refused(lambda hub: hub.model(parse_name(name)))
    assert isinstance(error, NotFoundError)
    assert error.message == "pull model manifest: file does not exist"
    assert f"Is {name} spelled right?" in str(error.hint)
    assert "HF_TOKEN" in str(error.hint)


@in_loop
async def test_a_gated_repository_is_listed_and_its_files_are_restricted(
    standin: HubStandin, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin.repos["someone/M-GGUF"].gated = True
    error = await refused(whole)
    assert (error.message, error.status) == ("access to hf.co/someone/M-GGUF is restricted", 403)
    assert f"Open {standin.url}/someone/M-GGUF and accept its conditions" in str(error.hint)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert await asked(whole) == WEIGHTS


@in_loop
async def test_a_wrong_token_is_said_to_be_one(standin: HubStandin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    error = await refused(whole)
    assert error.status == 403
    assert "does not accept the token" in error.message
    assert "hf_expired" not in f"{error.message} {error.hint}"


@pytest.mark.parametrize(
    ("trouble", "status", "told", "requests"),
    [
        (Trouble(429, headers={"Retry_After": "120"}), 429, "has been asked too often from here", 1),
        (Trouble(503), 502, "max retries exceeded: the Hugging Face Hub answers 503 for hf.co/someone/M-GGUF", 2),
        (Trouble(418), 502, "the Hugging Face Hub answers 418", 1),
        (Trouble(403, headers={"X_Error_Message": "Access to this resource is disabled."}), 404, "disabled", 1),
        (Trouble(200, b"<html>Log in</html>"), 502, "no description of a repository", 1),
        (Trouble(200, b"[]"), 502, "no description of a repository", 1),
        (Trouble(200, b'{"id": "a/b"}'), 502, "no description of a repository", 1),
        (Trouble(200, b'{"id": "a/b", "sha": "../../etc"}'), 502, "no description of a repository", 1),
        (
            Trouble(200, b'{"id":"a/b","sha":"%s","siblings":[{"rfilename":"m.gguf"}]}' % (b"5" * 40)),
            502,
            "no description of a repository",
            1,
        ),
    ],
)
@in_loop
async def test_trouble_is_told_and_tried_again_only_where_that_helps(
    standin: HubStandin, trouble: Trouble, status: int, told: str, requests: int
) -> None:
    standin.trouble = trouble
    error = await refused(lambda hub: hub.model(NAME))
    assert error.status == status
    assert told in error.message
    assert len(standin.asked) == requests


@in_loop
async def test_the_hint_says_how_long_to_wait(standin: HubStandin) -> None:
    standin.trouble = Trouble(429, headers={"Retry_After": "120"})
    assert "Try again in 120 seconds" in str((await refused(lambda hub: hub.model(NAME))).hint)


@in_loop
async def test_an_address_of_the_storage_is_kept_until_it_expires(standin: HubStandin) -> None:
    async def read_three_times(hub: Hub) -> None:
        source = hub.source((await hub.model(NAME)).weights)
        for signature in ("abc", "abc", "anew"):
            standin.signature = signature
            async with source.read(0, 10, len(WEIGHTS)) as body:
                assert b"".join([chunk async for chunk in body.chunks]) == WEIGHTS[:10]

    await asked(read_three_times)
    servers = [request.server for request in standin.asked[1:]]
    assert servers == ["hub", "storage", "storage", "storage", "hub", "storage"]


@in_loop
async def test_trouble_in_mid_file_is_the_lines(standin: HubStandin) -> None:
    async def read(hub: Hub) -> None:
        source = hub.source((await hub.model(NAME)).weights)
        standin.trouble = Trouble(503)
        with pytest.raises(LineError, match="answers 503"):
            async with source.read(0, 10, len(WEIGHTS)):
                pass

    await asked(read)


@in_loop
async def test_paths_that_lead_elsewhere_are_passed_over(standin: HubStandin) -> None:
    strange = ("../M.gguf", "/M.gguf", "a//M.gguf", "\x1b[2JM.gguf", "\u202eM.gguf")
    standin.add("someone/M-GGUF", dict.fromkeys((*strange, "M.gguf"), WEIGHTS))
    assert (await asked(lambda hub: hub.model(NAME))).weights.path == "M.gguf"


@in_loop
async def test_offline_mode_is_kept_to(standin: HubStandin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    error = await refused(lambda hub: hub.model(NAME))
    assert error.status == 503
    assert "HF_HUB_OFFLINE" in error.message
    assert not standin.asked


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        ("http://127.0.0.1:1", "max retries exceeded: the Hugging Face Hub (http://127.0.0.1:1) cannot be reached"),
        ("hub.example", "HF_ENDPOINT is no address of a hub: hub.example"),
        ("http://127.0.0.1:port", "HF_ENDPOINT is no address of a hub: http://127.0.0.1:port"),
    ],
)
@in_loop
async def test_a_hub_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str, told: str
) -> None:
    point_to(monkeypatch, endpoint, tmp_path)
    error = await refused(lambda hub: hub.model(NAME))
    assert isinstance(error, RegistryError)
    assert told in error.message


@in_loop
async def test_a_name_that_the_hub_does_not_allow_is_the_users_mistake(standin: HubStandin) -> None:
    error = await refused(lambda hub: hub.model(parse_name("hf.co/someone/a--b")))
    assert (error.status, error.message) == (400, "hf.co/someone/a--b is no name of a repository")


def test_a_server_does_not_load_the_library_before_it_is_needed() -> None:
    code = "import ollama_nb.server.routes, ollama_nb.service.hub, sys; sys.exit('huggingface_hub' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
