"""RoBERTa, XLM-RoBERTa and CamemBERT: BERT, but positions are counted from behind the padding token's id.

Source: ``create_position_ids_from_input_ids`` of transformers' ``modeling_roberta.py``: a text's first token has the
position ``pad_token_id + 1``, so the rows of the table before it are never used.
"""

from __future__ import annotations

from typing import ClassVar

from ollama_nb.convert.families.bert import Bert

__all__ = ["Roberta"]


class Roberta(Bert):
    """RoBERTa and its relatives in other languages."""

    architectures: ClassVar = (
        "RobertaModel", "RobertaForMaskedLM", "XLMRobertaModel", "XLMRobertaForMaskedLM",
        "CamembertModel", "CamembertForMaskedLM",
    )  # fmt: skip
    prefixes: ClassVar = ("roberta.", "camembert.")

    @property
    def position_offset(self) -> int:
        """One more than the id of the padding token."""
        return self.config.whole("pad_token_id", default=1) + 1

    @property
    def layer_norm_eps(self) -> float:
        """RoBERTa's own, which its config.json always names."""
        return self.config.number("layer_norm_eps", default=1e-5)
