"""What a sentence-transformers folder says of a model's vectors: how those of tokens become one, and its length.

``modules.json`` lists the steps from a text to its vector, and every step but the first has a folder with a
``config.json`` of its own. llama.cpp computes the model and then one of three poolings; anything else between a text
and its vector would be missing from every vector, so it is refused.

Source: sentence-transformers' ``sentence_transformer/modules/pooling.py`` (names of modes, old and new).
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

import gguf

from ollama_nb.convert.config import Config
from ollama_nb.convert.errors import ConvertError, shown
from ollama_nb.convert.untrusted import parse_object

if TYPE_CHECKING:
    from ollama_nb.convert.source import Source

__all__ = ["is_normalized", "pooling_type", "text_limit"]

_MODULES: Final = "modules.json"
_MAX_MODULES: Final = 1 << 20
"""Bytes of it; a real one has a few hundred."""
_TEXT_LIMITS: Final = ("sentence_bert_config.json", "sentence_roberta_config.json", "sentence_xlm-roberta_config.json")
"""Where the first step's own settings are; the name was once the model's."""

_TRANSFORMER: Final = "Transformer"
_POOLING: Final = "Pooling"
_NORMALIZE: Final = "Normalize"
_IDLE: Final = "Dropout"
"""A step that does something in training only."""

_TYPES: Final = {
    "mean": gguf.PoolingType.MEAN,
    "cls": gguf.PoolingType.CLS,
    "lasttoken": gguf.PoolingType.LAST,
}
_OLD_NAMES: Final = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


class _Module(NamedTuple):
    kind: str
    folder: str


def pooling_type(source: Source) -> int | None:
    """llama.cpp's number for how the vectors of tokens become one; None for a model that does not say.

    Raises ``ConvertError`` for a pooling that llama.cpp does not have, and for steps behind it that change the vector.
    """
    modules = _modules(source)
    poolings = [module for module in modules if module.kind == _POOLING]
    for module in modules[1:]:
        if module.kind not in {_POOLING, _NORMALIZE, _IDLE}:
            raise ConvertError(
                f"{_MODULES}: the vectors go through a {shown(module.kind)} module, which llama.cpp cannot compute",
                hint="Without it every vector would be another one.",
            )
    if not poolings:
        return None
    if len(poolings) > 1:
        raise ConvertError(f"{_MODULES} has {len(poolings)} Pooling modules; one is expected")
    name = str(PurePosixPath(poolings[0].folder) / "config.json")
    mode = _mode(Config(source.json(name), name))
    if mode not in _TYPES:
        raise ConvertError(
            f"{name}: vectors are pooled by {shown(mode)}, which llama.cpp does not have",
            hint="It has cls, mean and lasttoken.",
        )
    return int(_TYPES[mode])


def is_normalized(source: Source) -> bool:
    """Whether the model's vectors are brought to length one."""
    return any(module.kind == _NORMALIZE for module in _modules(source))


def text_limit(source: Source) -> int | None:
    """The tokens of a text that sentence-transformers reads at most, marks included; None for a model that is not told.

    It is a setting and no limit of the model, which often can read more.
    """
    for name in _TEXT_LIMITS:
        config = Config(source.optional_json(name), name)
        if "max_seq_length" in config:
            return config.whole("max_seq_length", least=1)
    return None


def _modules(source: Source) -> list[_Module]:
    """The steps in their order; none for a model that does not come from sentence-transformers."""
    if not source.has(_MODULES):
        return []
    # The one file that is a list; inside an object it is read within the limits of all others.
    value = parse_object(b'{"modules":' + source.read(_MODULES, _MAX_MODULES) + b"}", _MODULES).get("modules")
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ConvertError(f"{_MODULES} is no list of modules")
    modules = [_module(Config(item, _MODULES)) for item in value]
    if not modules or modules[0].kind != _TRANSFORMER:
        raise ConvertError(f"{_MODULES} does not begin with a Transformer module")
    return modules


def _module(entry: Config) -> _Module:
    """One step. The type is a class with its path; the path has changed between versions, the class has not."""
    return _Module(entry.text("type").rpartition(".")[2], entry.text("path", default=""))


def _mode(config: Config) -> str:
    """The name of the pooling; of several, whose vectors are put one behind the other, all names."""
    modes = config.values.get("pooling_mode")
    if modes is None:
        modes = [name for flag, name in _OLD_NAMES.items() if config.flag(flag, default=False)]
    if isinstance(modes, list):
        return "+".join(str(mode) for mode in modes) or "nothing"
    return config.text("pooling_mode")
