"""What the server asks of the process that converts and quantises, and what it hears from it: one JSON line each.

Paths are absolute. ``out`` is a file that may exist and is written over; it is complete once ``Done`` has come.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

__all__ = [
    "MAX_LINE",
    "BaseModel",
    "ConvertAdapter",
    "ConvertModel",
    "Done",
    "Event",
    "Job",
    "JobFailed",
    "Quantize",
    "Step",
]


class BaseModel(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be known of the model that an adapter is for: its GGUF architecture and its heads."""

    architecture: str
    block_count: int
    head_count: int
    head_count_kv: int


class ConvertModel(msgspec.Struct, frozen=True, kw_only=True, tag_field="job"):
    """Make a GGUF of a model's files: their names, as they stand in the model's folder, to paths.

    ``type`` is ``F32``, ``F16`` or ``BF16``; empty keeps what the files have, F32 becomes F16.
    """

    files: dict[str, str]
    out: str
    type: str = ""


class ConvertAdapter(msgspec.Struct, frozen=True, kw_only=True, tag_field="job"):
    """Make a GGUF of a LoRA adapter's files, for a model like ``base``."""

    files: dict[str, str]
    out: str
    base: BaseModel


class Quantize(msgspec.Struct, frozen=True, kw_only=True, tag_field="job"):
    """Make a smaller GGUF of the GGUF file ``source``: ``type`` as in ``gguf.ggml_types.FILE_TYPES``."""

    source: str
    out: str
    type: str


Job: TypeAlias = ConvertModel | ConvertAdapter | Quantize


class Step(msgspec.Struct, frozen=True, tag_field="event"):
    """How far the job is, in bytes of tensors read; ``total`` is 0 as long as nobody knows."""

    completed: int
    total: int


class Done(msgspec.Struct, frozen=True, tag_field="event"):
    """The file is there. ``notes`` tell what the user should know, such as tensors that got another type."""

    notes: list[str] = []


class JobFailed(msgspec.Struct, frozen=True, tag_field="event"):
    """There is no file; ``status`` as in HTTP: 400 where the files are to blame."""

    error: str
    status: int = 500
    hint: str = ""


Event: TypeAlias = Step | Done | JobFailed

MAX_LINE: Final = 64 << 20
"""Bytes of one line: a job names thousands of files at most."""
