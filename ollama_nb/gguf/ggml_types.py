"""ggml's tensor types and llama.cpp's file types: their numbers, names and sizes.

Source: ``enum ggml_type`` and the block structures of ggml, and ``enum llama_ftype`` of llama.cpp. Numbers that
ggml has retired are absent, as it refuses their files. Checking a file against these tables is left to the reader.
"""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["FILE_TYPES", "GGML_TYPES", "GgmlType"]

_SUPER: Final = 256
"""Weights in a super-block of the K, IQ and TQ types."""


class GgmlType(msgspec.Struct, frozen=True):
    """How weights are stored: ``block_size`` weights of a row together in ``type_size`` bytes."""

    name: str
    block_size: int
    type_size: int


GGML_TYPES: Final[dict[int, GgmlType]] = {
    0: GgmlType("F32", 1, 4),
    1: GgmlType("F16", 1, 2),
    2: GgmlType("Q4_0", 32, 18),
    3: GgmlType("Q4_1", 32, 20),
    6: GgmlType("Q5_0", 32, 22),
    7: GgmlType("Q5_1", 32, 24),
    8: GgmlType("Q8_0", 32, 34),
    9: GgmlType("Q8_1", 32, 36),
    10: GgmlType("Q2_K", _SUPER, 84),
    11: GgmlType("Q3_K", _SUPER, 110),
    12: GgmlType("Q4_K", _SUPER, 144),
    13: GgmlType("Q5_K", _SUPER, 176),
    14: GgmlType("Q6_K", _SUPER, 210),
    15: GgmlType("Q8_K", _SUPER, 292),
    16: GgmlType("IQ2_XXS", _SUPER, 66),
    17: GgmlType("IQ2_XS", _SUPER, 74),
    18: GgmlType("IQ3_XXS", _SUPER, 98),
    19: GgmlType("IQ1_S", _SUPER, 50),
    20: GgmlType("IQ4_NL", 32, 18),
    21: GgmlType("IQ3_S", _SUPER, 110),
    22: GgmlType("IQ2_S", _SUPER, 82),
    23: GgmlType("IQ4_XS", _SUPER, 136),
    24: GgmlType("I8", 1, 1),
    25: GgmlType("I16", 1, 2),
    26: GgmlType("I32", 1, 4),
    27: GgmlType("I64", 1, 8),
    28: GgmlType("F64", 1, 8),
    29: GgmlType("IQ1_M", _SUPER, 56),
    30: GgmlType("BF16", 1, 2),
    34: GgmlType("TQ1_0", _SUPER, 54),
    35: GgmlType("TQ2_0", _SUPER, 66),
    39: GgmlType("MXFP4", 32, 17),
    40: GgmlType("NVFP4", 64, 36),
    41: GgmlType("Q1_0", 128, 18),
    42: GgmlType("Q2_0", 64, 18),
}
"""The types a tensor may have, by the number in the file."""

FILE_TYPES: Final[dict[int, str]] = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4",
    39: "NVFP4",
    40: "Q1_0",
    41: "Q2_0",
}
"""What most of a file's weights are stored as, by the number in ``general.file_type``."""
