"""Ollama's API about models as types: making, listing, showing, copying, deleting and moving them.

The same rules as in ``native`` hold: the order of fields is the order on the wire, a default leaves it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ollama_nb.wire.fields import RequestOptions  # noqa: TC001 - msgspec reads the annotations
from ollama_nb.wire.native import Message  # noqa: TC001 - the same

__all__ = [
    "CopyRequest",
    "CreateRequest",
    "DeleteRequest",
    "ListResponse",
    "ModelDetails",
    "ModelSummary",
    "ProcessResponse",
    "Progress",
    "PullRequest",
    "PushRequest",
    "RunningModel",
    "ShowRequest",
    "ShowResponse",
    "Tensor",
]


class CreateRequest(msgspec.Struct, kw_only=True):
    """``POST /api/create``. ``files`` and ``adapters`` map file names to digests of uploaded blobs."""

    model: str = ""
    name: str = ""
    stream: bool = True
    from_: str = msgspec.field(default="", name="from")
    files: dict[str, str] | None = None
    adapters: dict[str, str] | None = None
    template: str = ""
    license: str | list[str] = ""
    system: str = ""
    parameters: RequestOptions = {}
    messages: list[Message] = []
    quantize: str = ""
    quantization: str = ""


class PullRequest(msgspec.Struct, kw_only=True):
    """``POST /api/pull``. ``username`` and ``password`` are of old clients and mean nothing."""

    model: str = ""
    name: str = ""
    insecure: bool = False
    stream: bool = True
    username: str = ""
    password: str = ""


class PushRequest(msgspec.Struct, kw_only=True):
    """``POST /api/push``, with the fields of a pull."""

    model: str = ""
    name: str = ""
    insecure: bool = False
    stream: bool = True
    username: str = ""
    password: str = ""


class Progress(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line of a create, a pull or a push; sizes in bytes."""

    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0


class ShowRequest(msgspec.Struct, kw_only=True):
    """``POST /api/show``."""

    model: str = ""
    name: str = ""
    system: str = ""
    verbose: bool = False
    options: RequestOptions = {}


class CopyRequest(msgspec.Struct, kw_only=True):
    """``POST /api/copy``."""

    source: str = ""
    destination: str = ""


class DeleteRequest(msgspec.Struct, kw_only=True):
    """``DELETE /api/delete``."""

    model: str = ""
    name: str = ""


class ModelDetails(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What kind of model it is. ``/api/show`` tells the parent, ``/api/tags`` the lengths, in tokens and in floats."""

    parent_model: str
    format: str
    family: str
    families: list[str] | None
    parameter_size: str
    quantization_level: str
    context_length: int = 0
    embedding_length: int = 0


class ModelSummary(msgspec.Struct, kw_only=True):
    """One model of ``/api/tags``."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: ModelDetails
    capabilities: list[str]


class ListResponse(msgspec.Struct, kw_only=True):
    """``GET /api/tags``."""

    models: list[ModelSummary]


class RunningModel(msgspec.Struct, kw_only=True):
    """One model of ``/api/ps``; sizes are estimates in bytes, ``context_length`` is per request in tokens."""

    name: str
    model: str
    size: int
    digest: str
    details: ModelDetails
    expires_at: str
    size_vram: int
    context_length: int


class ProcessResponse(msgspec.Struct, kw_only=True):
    """``GET /api/ps``."""

    models: list[RunningModel]


class Tensor(msgspec.Struct, kw_only=True):
    """Name, GGML type and shape (GGUF order) of a tensor."""

    name: str
    type: str
    shape: list[int]


class ShowResponse(msgspec.Struct, kw_only=True, omit_defaults=True):
    """``POST /api/show``."""

    license: str = ""
    modelfile: str = ""
    parameters: str = ""
    template: str = ""
    system: str = ""
    details: ModelDetails
    messages: list[Message] = []
    model_info: dict[str, Any]
    projector_info: dict[str, Any] = {}
    tensors: list[Tensor] = []
    capabilities: list[str] = []
    modified_at: str
