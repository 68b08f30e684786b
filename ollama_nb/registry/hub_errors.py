"""What the Hugging Face Hub means by the statuses and headers with which it refuses, and what to do about it.

It says in ``X-Error-Code`` what a status leaves open; a repository that is private is to strangers as if it were not
there. The same answers come for a listing, which the library asks for, and for a file, which we do.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from ollama_nb.registry.source import LineError
from ollama_nb.wire.errors import NotFoundError, OllamaError, RegistryError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Place", "refusal"]

_LOGIN: Final = "log in with `hf auth login`, or start the server with HF_TOKEN"
_BAD_TOKEN: Final = "Invalid credentials in Authorization header"  # noqa: S105 - what the hub says of one
_DISABLED: Final = "Access to this resource is disabled."


class Place(NamedTuple):
    """A repository: as users write it, ``hf.co/user/repo``, and its page in a browser."""

    name: str
    page: str


def refusal(status: int, headers: Mapping[str, str], place: Place) -> OllamaError | LineError:
    """The error that an answer of the hub means, ``LineError`` if it may pass; names in ``headers`` in any case."""
    code, said = headers.get("X-Error-Code", ""), headers.get("X-Error-Message", "")
    if status == HTTPStatus.UNAUTHORIZED and said == _BAD_TOKEN:
        return RegistryError(
            "the Hugging Face Hub does not accept the token of this server",
            status=HTTPStatus.FORBIDDEN,
            hint=f"It is expired or mistyped: {_LOGIN}.",
        )
    if said == _DISABLED:
        return NotFoundError(f"{place.name} has been disabled by the Hugging Face Hub")
    if code == "GatedRepo" or status == HTTPStatus.FORBIDDEN:
        return RegistryError(
            f"access to {place.name} is restricted",
            status=HTTPStatus.FORBIDDEN,
            hint=f"Open {place.page} and accept its conditions; then {_LOGIN} of that account.",
        )
    # 401 is the answer for what is private and for what is not there alike.
    if code == "RepoNotFound" or status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND):
        return NotFoundError(
            "pull model manifest: file does not exist",
            hint=f"Is {place.name} spelled right? If it is private, {_LOGIN} of an account that may see it.",
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return _too_many(headers.get("Retry-After", ""))
    text = f"the Hugging Face Hub answers {status} for {place.name}"
    return LineError(text) if status >= HTTPStatus.INTERNAL_SERVER_ERROR else RegistryError(text)


def _too_many(wait: str) -> RegistryError:
    # The hub counts in windows of five minutes: nothing to wait out in silence.
    pause = f"in {wait} seconds" if wait.isdecimal() else "in a few minutes"
    return RegistryError(
        "the Hugging Face Hub has been asked too often from here",
        status=HTTPStatus.TOO_MANY_REQUESTS,
        hint=f"Try again {pause}. Users with an account may ask more often: {_LOGIN}.",
    )
