"""Model names and digests: the two validators through which every path from outside must go.

A name is ``[scheme://][host/][namespace/]model[:tag]``, a digest ``sha256:`` and 64 hex digits. Both are checked
when they are made, so code that holds a ``Name`` or a canonical digest may use it as part of a path. Which names
exist, and in what spelling, is the store's business; so is the error text of each route.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ollama_nb.wire.errors import BadRequestError

__all__ = ["DEFAULT_HOST", "DEFAULT_NAMESPACE", "DEFAULT_TAG", "InvalidNameError", "Name", "parse_digest", "parse_name"]

DEFAULT_HOST: Final = "registry.ollama.ai"
DEFAULT_NAMESPACE: Final = "library"
DEFAULT_TAG: Final = "latest"

# Every part begins with a letter, a digit or "_": neither "..", hidden files nor options can be spelled.
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_MODEL_OR_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")


class InvalidNameError(BadRequestError, ValueError):
    """A text is no model name; routes that word this differently replace the message."""

    def __init__(self, message: str = "invalid model name") -> None:
        super().__init__(message)


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """A complete and valid model name, spelled as given; making an invalid one raises ``InvalidNameError``."""

    host: str
    namespace: str
    model: str
    tag: str

    def __post_init__(self) -> None:
        if not (
            _HOST.fullmatch(self.host)
            and _NAMESPACE.fullmatch(self.namespace)
            and _MODEL_OR_TAG.fullmatch(self.model)
            and _MODEL_OR_TAG.fullmatch(self.tag)
        ):
            raise InvalidNameError

    def __str__(self) -> str:
        return self.short

    @property
    def short(self) -> str:
        """What users read: always with the tag, without the default host and namespace.

        A foreign host shows the namespace too, even when that is ``library``.
        """
        if self.host.lower() != DEFAULT_HOST:
            return self.full
        if self.namespace.lower() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"

    @property
    def full(self) -> str:
        """All four parts: ``registry.ollama.ai/library/x:latest``."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def path_parts(self) -> tuple[str, str, str, str]:
        """Host, namespace, model and tag: where the manifest lies below ``manifests/``."""
        return (self.host, self.namespace, self.model, self.tag)

    @property
    def folded(self) -> tuple[str, str, str, str]:
        """The parts in lower case; two names are the same model when these are equal."""
        return (self.host.lower(), self.namespace.lower(), self.model.lower(), self.tag.lower())

    def is_same(self, other: Name) -> bool:
        """Whether both name the same model: names differ by more than case or not at all."""
        return self.folded == other.folded


def parse_name(text: str) -> Name:
    """The name that a user wrote, completed with the default host, namespace and tag.

    Read from the right, as Ollama does: a tag only behind the last ``/``, then model, namespace, and the rest is
    the host, less a scheme. Raises ``InvalidNameError``, also where a separator has nothing on one side.
    """
    tag, host, namespace = DEFAULT_TAG, DEFAULT_HOST, DEFAULT_NAMESPACE
    rest = text
    if rest.rfind(":") > rest.rfind("/"):
        rest, tag = _split_last(rest, ":")
    if "/" not in rest:
        return Name(host, namespace, rest, tag)
    rest, model = _split_last(rest, "/")
    if "/" not in rest:
        return Name(host, rest, model, tag)
    rest, namespace = _split_last(rest, "/")
    scheme, separator, after = rest.partition("://")
    return Name((after if separator else scheme) or host, namespace, model, tag)


def parse_digest(text: str) -> str:
    """The canonical form, ``sha256:`` and 64 lower-case hex digits, of a digest in any form Ollama accepts.

    ``sha256-`` (as in file names) and upper-case digits are accepted. Raises ``BadRequestError`` with Ollama's
    text for everything else.
    """
    match = _DIGEST.fullmatch(text)
    if match is None:
        raise BadRequestError("invalid digest format")
    return f"sha256:{match.group(1).lower()}"


def _split_last(text: str, separator: str) -> tuple[str, str]:
    """Both sides of the last ``separator``; a side that is empty was promised and is missing."""
    before, _, after = text.rpartition(separator)
    if not before or not after:
        raise InvalidNameError
    return before, after
