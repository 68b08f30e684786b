"""The architectures that can be converted, one small file each, and which of them a model is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ollama_nb.convert.families.bert import Bert
from ollama_nb.convert.families.cohere import Cohere2, CommandR
from ollama_nb.convert.families.distilbert import DistilBert
from ollama_nb.convert.families.gemma import Gemma, Gemma2, Gemma3
from ollama_nb.convert.families.llama import Llama, Mistral
from ollama_nb.convert.families.mixtral import Mixtral
from ollama_nb.convert.families.nomic import NomicBert
from ollama_nb.convert.families.phi3 import Phi3
from ollama_nb.convert.families.qwen import Qwen2, Qwen3
from ollama_nb.convert.families.roberta import Roberta
from ollama_nb.convert.source import ConvertError

if TYPE_CHECKING:
    from ollama_nb.convert.families.base import Family

__all__ = ["FAMILIES", "family_of"]

FAMILIES: Final[tuple[type[Family], ...]] = (
    Bert, Cohere2, CommandR, DistilBert, Gemma, Gemma2, Gemma3, Llama, Mistral, Mixtral, NomicBert,
    Phi3, Qwen2, Qwen3, Roberta,
)  # fmt: skip
"""All of them."""

_BY_ARCHITECTURE: Final = {name: family for family in FAMILIES for name in family.architectures}


def family_of(architecture: str) -> type[Family]:
    """The family of a name in ``architectures`` of ``config.json``; raises ``ConvertError`` in Ollama's words."""
    family = _BY_ARCHITECTURE.get(architecture)
    if family is None:
        raise ConvertError(
            f'unsupported architecture "{architecture}"',
            hint=f"These can be converted: {', '.join(sorted(_BY_ARCHITECTURE))}.",
        )
    return family
