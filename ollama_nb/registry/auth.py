"""How we show a registry who we are: a challenge is answered by a token, for which the user's key signs.

The protocol is Docker's token authentication (the ``Bearer`` challenge of RFC 6750 with ``realm``, ``service`` and
``scope``) with Ollama's signature in place of a password. Tokens are kept for as long as the registry takes them;
they stand in no log and in no error. Which requests carry one is left to ``client``.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import secrets
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode

import httpx2
import msgspec

from ollama_nb.registry.addresses import origin_of, place_of
from ollama_nb.registry.answers import denied, refusal, whole_body
from ollama_nb.wire.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ollama_nb.registry.keys import KeyPair
    from ollama_nb.registry.transport import Transport

__all__ = ["Challenge", "Tokens", "parse_challenge", "token_url"]

_MAX_REPLY: Final = 1024 * 1024
_NONCE_BYTES: Final = 16
_MAX_SCOPES: Final = 32

# A word is what RFC 9110 calls a token; in quotes a backslash takes the meaning from what follows it.
_SCHEME: Final = re.compile(r"\s*,?\s*([A-Za-z][A-Za-z0-9._~+/-]*)(?:\s+|$|(?=,))")
_PARAMETER: Final = re.compile(
    r"""[\s,]*([A-Za-z0-9!#$%&'*+.^_`|~-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))""", re.DOTALL
)
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,65536}")
_EMPTY_HASH: Final = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a registry wants to be shown: a token that ``realm`` gives out for ``service`` and ``scopes``."""

    realm: str
    service: str = ""
    scopes: tuple[str, ...] = ()


class _Reply(msgspec.Struct):
    token: str = ""
    access_token: str = ""


class Tokens:
    """The tokens of one registry; requests that run at once fetch each of them once."""

    def __init__(self, transport: Transport, key: KeyPair) -> None:
        self._transport = transport
        self._key = key
        self._kept: dict[tuple[str, ...], str] = {}
        self._wanted: dict[str, tuple[str, ...]] = {}
        self._fetching = asyncio.Lock()

    def known(self, kind: str) -> str | None:
        """The token for what requests of this kind (``read``, ``write``) were last asked to show."""
        return self._kept.get(self._wanted.get(kind, ()))

    async def answer(self, kind: str, response: httpx2.Response, shown: str | None) -> str:
        """The token that answers the challenge in a 401, other than ``shown``, which was refused.

        Raises ``RegistryError`` where there is none to be had, ``LineError``, and ``OllamaError`` if the key is of no
        use: to go on without it would look as if the registry did not know its owner.
        """
        challenge = parse_challenge(response.headers.get_list("WWW-Authenticate"))
        if challenge is None:
            raise denied()
        async with self._fetching:
            self._wanted[kind] = challenge.scopes
            kept = self._kept.get(challenge.scopes)
            if kept is None or kept == shown:
                self._kept.pop(challenge.scopes, None)
                kept = self._kept[challenge.scopes] = await self._fetch(challenge, response.request.url)
            return kept

    async def _fetch(self, challenge: Challenge, asked: httpx2.URL) -> str:
        url = token_url(challenge, asked, nonce=secrets.token_bytes(_NONCE_BYTES), now=int(time.time()))
        text = f"GET,{url},{_EMPTY_HASH}".encode()
        signed = await asyncio.to_thread(self._key.sign, text)
        async with self._transport.send("GET", url, headers={"Authorization": signed}) as response:
            if response.status_code != HTTPStatus.OK:
                raise await refusal(response, "no token")
            body = await whole_body(response, _MAX_REPLY, "the reply with the token")
        try:
            reply = msgspec.json.decode(body, type=_Reply)
        except (msgspec.DecodeError, RecursionError) as error:
            # Nothing of the reply is shown: it may be a token all the same.
            raise RegistryError(f"{asked.host} gives out no token: its reply is not the JSON of one") from error
        token = reply.token or reply.access_token
        if not _TOKEN.fullmatch(token):
            raise RegistryError(f"{asked.host} gives out no token: its reply has none")
        return token


def parse_challenge(headers: Iterable[str]) -> Challenge | None:
    """The first ``Bearer`` challenge in the ``WWW-Authenticate`` headers of a 401, if there is one with a realm."""
    for header in headers:
        for scheme, parameters in _challenges(header):
            if scheme.lower() == "bearer" and parameters.get("realm"):
                scopes = tuple(parameters.get("scope", "").split()[:_MAX_SCOPES])
                return Challenge(parameters["realm"], parameters.get("service", ""), scopes)
    return None


def _challenges(header: str) -> Iterable[tuple[str, dict[str, str]]]:
    """Schemes with their parameters (names in small letters); several may stand in one header (RFC 9110, 11.6.1)."""
    position = 0
    while match := _SCHEME.match(header, position):
        position = match.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, position):
            name, quoted, plain = parameter.groups()
            parameters.setdefault(
                name.lower(), re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL) if plain is None else plain
            )
            position = parameter.end()
        yield match.group(1), parameters


def token_url(challenge: Challenge, asked: httpx2.URL, *, nonce: bytes, now: int) -> str:
    """Where the token for a challenge is fetched: the realm with nonce, scopes, service and time (Unix, seconds).

    The parameters stand in alphabetical order, since the whole URL is signed. Raises ``RegistryError`` unless the realm
    has the origin of ``asked``, the URL that was asked for: nobody else is shown a signature.
    """
    try:
        realm = httpx2.URL(challenge.realm)
    except (httpx2.InvalidURL, ValueError) as error:
        raise RegistryError(f"{asked.host} names a realm that is no URL") from error
    theirs, ours = origin_of(realm), origin_of(asked)
    if theirs != ours:
        there, here = (place_of(realm), place_of(asked))
        if there == here:
            there, here = (f"{theirs.scheme}://{there}", f"{ours.scheme}://{here}")
        raise RegistryError(
            f'realm host "{there}" does not match original host "{here}"',
            hint="The registry wants its token fetched elsewhere, where your key would be misused.",
        )
    if realm.userinfo:
        raise RegistryError(f"{asked.host} names a realm with a user name in it")
    pairs = [
        *parse_qsl(realm.query.decode("ascii", "replace"), keep_blank_values=True),
        ("nonce", base64.urlsafe_b64encode(nonce).rstrip(b"=").decode()),
        *(("scope", scope) for scope in challenge.scopes or ("",)),
        ("service", challenge.service),
        ("ts", str(now)),
    ]
    query = urlencode(sorted(pairs, key=lambda pair: pair[0]))
    return str(realm.copy_with(query=query.encode(), fragment=None))
