"""Replies that come whole: those of ``/api/tags``, ``/api/ps``, ``/api/show``, and the steps of long work.

``wire.native`` says what our server sends; these say what a client understands from any Ollama, older or newer: a
field that is absent gets its empty value, one that is not known is ignored, times are datetimes. How they look on a
screen is left to ``cli``; vectors are in ``vectors``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

__all__ = ["NEVER", "Details", "ModelCard", "ModelSummary", "Progress", "RunningModel"]

NEVER: Final = datetime(1, 1, 1, tzinfo=UTC)
"""Go's zero time, which stands for "no time" on the wire."""


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """What kind of model it is: file format, family, ``parameter_size`` as text (``8.0B``), quantization."""

    parent_model: str = ""
    format: str = ""
    family: str = ""
    families: tuple[str, ...] | None = None
    parameter_size: str = ""
    quantization_level: str = ""
    context_length: int | None = None
    embedding_length: int | None = None


class ModelSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A stored model. ``size`` in bytes; ``digest`` is bare hex."""

    name: str
    digest: str = ""
    size: int = 0
    modified_at: datetime = NEVER
    details: Details = Details()


class RunningModel(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded model. ``size`` and ``size_vram`` in bytes, ``context_length`` in tokens."""

    name: str
    digest: str = ""
    size: int = 0
    size_vram: int = 0
    context_length: int = 0
    expires_at: datetime = NEVER
    details: Details = Details()


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """All about one model; texts are empty where the model has none."""

    details: Details = Details()
    modelfile: str = ""
    parameters: str = ""
    template: str = ""
    system: str = ""
    license: str = ""
    capabilities: tuple[str, ...] | None = None
    messages: tuple[dict[str, Any], ...] | None = None
    model_info: dict[str, Any] | None = None
    projector_info: dict[str, Any] | None = None
    tensors: tuple[dict[str, Any], ...] | None = None
    modified_at: datetime = NEVER


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a long operation: of create, pull, push.

    ``total`` and ``completed`` in bytes, 0 where the step has none; steps with the same ``status`` are one transfer.
    """

    status: str = ""
    digest: str = ""
    total: int = 0
    completed: int = 0
