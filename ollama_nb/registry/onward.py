"""What a registry's answer to one step of an upload says: how far it came, and where it goes on."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import httpx2

from ollama_nb.registry.addresses import check_redirect
from ollama_nb.registry.answers import refusal
from ollama_nb.registry.source import LineError
from ollama_nb.wire.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["LOST", "arrived_bytes", "check", "location", "next_url"]

LOST: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE})
"""Answers to a part or a commit by which an upload is no more where we thought it was."""

_RANGE: Final = re.compile(r"(?:bytes=)?0-(\d{1,18})")


async def check(response: httpx2.Response, lost: Collection[int] = ()) -> None:
    """Raises what a status other than success means: ``LineError`` for those in ``lost``, else as ``refusal`` says."""
    if response.is_success:
        return
    error = await refusal(response)
    raise LineError(str(error)) if response.status_code in lost else error


def arrived_bytes(response: httpx2.Response) -> int:
    """How many bytes the registry says that it has, by ``Range: 0-<last>``; 0 where it does not."""
    match = _RANGE.fullmatch(response.headers.get("Range", "")) if response.is_success else None
    return int(match[1]) + 1 if match else 0


def next_url(response: httpx2.Response, otherwise: str = "") -> str:
    """The URL of the next step: ``Docker-Upload-Location``, as Ollama's registry has it, or ``Location``."""
    header = "Docker-Upload-Location"
    return location(response, header if header in response.headers else "Location", otherwise)


def location(response: httpx2.Response, header: str, otherwise: str = "") -> str:
    """The URL in a header, made absolute; ``otherwise`` where the header is missing.

    Raises ``RegistryError`` where there is none, or none that a registry may lead to.
    """
    text = response.headers.get(header) or otherwise
    if not text:
        raise RegistryError("the registry does not say where the upload goes on")
    source = response.request.url
    try:
        target = source.join(text)
    except (httpx2.InvalidURL, UnicodeError) as error:
        raise RegistryError("the registry names no URL where the upload goes on") from error
    check_redirect(target, source)
    return str(target)
