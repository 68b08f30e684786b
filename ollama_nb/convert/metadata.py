"""The values that a converted model's header has, and how they become those of GGUF."""

from __future__ import annotations

from typing import TypeAlias

__all__ = ["MetaValue"]

MetaValue: TypeAlias = bool | int | float | str | bytes | list[str] | list[int] | list[float] | list[bool]
"""Whole numbers are written as uint32, negative ones as int32, floats as float32, lists of whole numbers as int32."""
