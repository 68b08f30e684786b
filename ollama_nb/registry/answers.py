"""What a registry says: bodies read up to a limit, and refusals put into words that a user may be shown."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

import httpx2
import msgspec

from ollama_nb.registry.source import LineError
from ollama_nb.wire.errors import RegistryError

__all__ = ["TEXT_LIMIT", "denied", "printable", "refusal", "whole_body"]

TEXT_LIMIT: Final = 300
"""Characters of a registry's own words that are shown."""

_WHOLE_BODY_SECONDS: Final = 300.0
_REFUSAL_SECONDS: Final = 10.0
_REFUSAL_BYTES: Final = 16 * 1024
_LEAST_SECRET: Final = 5
_LONGEST_PAUSE: Final = 60.0

_SOON_OVER: Final = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
_PASSED_ON: Final = frozenset(
    {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED}
)
"""Statuses that tell the user's client the same as us; with all others the registry is to blame."""


async def whole_body(response: httpx2.Response, limit: int, what: str) -> bytes:
    """A body that is meant to be short; raises ``RegistryError`` past ``limit`` bytes, stated or not."""
    stated = response.headers.get("Content-Length", "")
    if stated.isdecimal() and int(stated) > limit:
        raise RegistryError(f"{what} has {stated[:20]} bytes, more than the {limit} that are taken")
    try:
        async with asyncio.timeout(_WHOLE_BODY_SECONDS):
            body, complete = await _beginning(response, limit)
    except TimeoutError as error:
        raise LineError(f"{what} comes too slowly") from error
    if not complete:
        raise RegistryError(f"{what} has more than the {limit} bytes that are taken")
    return body


async def _beginning(response: httpx2.Response, limit: int) -> tuple[bytes, bool]:
    """At most ``limit`` bytes, and whether that is all."""
    body = bytearray()
    async with contextlib.aclosing(response.aiter_raw()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > limit:
                return bytes(body[:limit]), False
    return bytes(body), True


async def refusal(response: httpx2.Response, what: str = "") -> LineError | RegistryError:
    """The error that a status other than success means, in Ollama's form ``<status>: <text>``.

    ``LineError`` if it may be over soon, with the seconds that the registry asks to wait.
    """
    status = response.status_code
    if status == HTTPStatus.UNAUTHORIZED:
        return denied()
    said = await _words(response)
    text = f"{what}: {status}: {said}" if what else f"{status}: {said}"
    if status in _SOON_OVER:
        return LineError(text, after=_pause(response.headers.get("Retry-After", "")))
    if status == HTTPStatus.NOT_FOUND and not what:
        return RegistryError("file does not exist", status=status)
    return RegistryError(text, status=status if status in _PASSED_ON else None)


def denied() -> RegistryError:
    """What is said when a registry goes on asking who we are, or asks for what we do not have."""
    return RegistryError(
        "unauthorized: access denied",
        status=HTTPStatus.FORBIDDEN,
        hint="Is the name right, and may you do this there? A registry knows you by the key in id_ed25519.pub.",
    )


class _Fault(msgspec.Struct):
    message: str = ""
    code: str = ""


class _Faults(msgspec.Struct):
    errors: list[_Fault]


async def _words(response: httpx2.Response) -> str:
    """The registry's own words: the messages of Docker's error format, else the body's beginning."""
    body = b""
    # What a registry says about a failure is worth a moment, and no second failure.
    with contextlib.suppress(TimeoutError, httpx2.TransportError):
        async with asyncio.timeout(_REFUSAL_SECONDS):
            body, _ = await _beginning(response, _REFUSAL_BYTES)
    text = body.decode("utf-8", "replace")
    # Some repeat what they were asked, and errors are shown and logged.
    shown = response.request.headers.get("Authorization", "").rpartition(" ")[2]
    if len(shown) >= _LEAST_SECRET:
        text, body = text.replace(shown, "..."), body.replace(shown.encode(), b"...")
    with contextlib.suppress(msgspec.DecodeError, RecursionError):
        faults = msgspec.json.decode(body, type=_Faults).errors
        text = "; ".join(fault.message or fault.code for fault in faults) or text
    return printable(text) or (response.reason_phrase and printable(response.reason_phrase)) or "no reason given"


def printable(text: str) -> str:
    """One line of at most ``TEXT_LIMIT`` characters in which nothing moves a cursor or turns the text around."""
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return words if len(words) <= TEXT_LIMIT else f"{words[: TEXT_LIMIT - 1]}…"


def _pause(text: str) -> float:
    """The seconds of a ``Retry-After``, which may be a date, too; 0 for none that can be read, a minute at most."""
    if text.strip().isdecimal():
        return min(float(text), _LONGEST_PAUSE)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - datetime.now(UTC)).total_seconds(), 0.0), _LONGEST_PAUSE)
