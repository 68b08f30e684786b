"""A quantized GGUF file made one of half precision again, as if it had never been smaller.

What the quantization has lost does not come back; but the file is what a conversion would have written: matrices in
F16, vectors in F32. It stands in where a model exists in a small file only and the original is what is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import gguf
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

_WRITTEN_ANYWAY: Final = {"general.architecture", "general.file_type", "general.quantization_version"}
_MATRIX: Final = 2


def write_f16(source: Path, out: Path) -> Path:
    """The model of ``source`` in F16, at ``out``."""
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(out, architecture)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for name, field in reader.fields.items():
        if name in _WRITTEN_ANYWAY or name.startswith("GGUF."):
            continue
        kind, *inner = field.types
        writer.add_key_value(name, field.contents(), kind, sub_type=inner[-1] if inner else None)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, values.astype(np.float16 if len(tensor.shape) >= _MATRIX else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out
