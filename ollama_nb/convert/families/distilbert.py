"""DistilBERT: BERT with half the layers, no token types, and names of its own for everything."""

from __future__ import annotations

from typing import ClassVar

from ollama_nb.convert.families.bert import Bert

__all__ = ["DistilBert"]


class DistilBert(Bert):
    """DistilBERT."""

    architectures: ClassVar = ("DistilBertModel", "DistilBertForMaskedLM")
    prefixes: ClassVar = ("distilbert.",)
    heads: ClassVar = ("vocab_transform.", "vocab_layer_norm.", "vocab_projector.")
