"""Mixtral: a Mistral with several feed-forward networks in a layer, of which every token goes through a few.

Files have the experts one by one (``block_sparse_moe.experts.0.w1``), as all published ones do, or as transformers 5
keeps them in memory: all of a layer in one tensor, gate and up in one as well (``mlp.experts.gate_up_proj``). llama.cpp
wants gate, up and down of all experts in one tensor each.

Source: llama.cpp's ``src/models/llama.cpp``; transformers' ``models/mixtral`` and its ``conversion_mapping.py``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Final

from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.families.llama import Mistral
from ollama_nb.convert.weights import Part, Weight

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ollama_nb.convert.families.decoder import Shapes
    from ollama_nb.convert.metadata import MetaValue
    from ollama_nb.convert.safetensors import StoredTensor

__all__ = ["Mixtral"]

_MAX_EXPERTS: Final = 1024
"""For which llama.cpp has room."""

_LAYER: Final = r"(?:model\.)?layers\.([0-9]+)\."
_ROUTER: Final = re.compile(_LAYER + r"(?:block_sparse_moe|mlp)\.gate\.weight")
_SINGLE: Final = re.compile(_LAYER + r"(?:block_sparse_moe|mlp)\.experts\.([0-9]+)\.(w1|w2|w3)\.weight")
_FUSED: Final = re.compile(_LAYER + r"(?:block_sparse_moe|mlp)\.experts\.(gate_up_proj|down_proj)")
_NAMES: Final = {"w1": "ffn_gate_exps", "w3": "ffn_up_exps", "w2": "ffn_down_exps"}
_ORDER: Final = tuple(_NAMES)


class Mixtral(Mistral):
    """Mixtral 8x7B and 8x22B."""

    architectures: ClassVar = ("MixtralForCausalLM",)
    default_theta: ClassVar = 1000000.0

    @property
    def expert_count(self) -> int:
        """Experts of a layer."""
        return self.config.whole("num_local_experts", "num_experts", least=1, most=_MAX_EXPERTS)

    def facts(self) -> dict[str, MetaValue]:
        """With the number of experts, and of those that a token goes through."""
        used = self.config.whole("num_experts_per_tok", least=1, most=self.expert_count)
        return {**super().facts(), "expert_count": self.expert_count, "expert_used_count": used}

    def convert(self, name: str, tensor: StoredTensor) -> Iterable[Weight]:
        """As ``Decoder.convert``; experts and routers come with ``extra_weights``."""
        is_extra = any(pattern.fullmatch(name) for pattern in (_SINGLE, _FUSED, _ROUTER))
        return () if is_extra else super().convert(name, tensor)

    def extra_weights(self) -> Iterable[Weight]:
        """Experts and routers of all layers, in the same order by whichever names the files have them."""
        stacks: dict[tuple[int, str], dict[int, StoredTensor]] = {}
        for name, tensor in self.tensors.items():
            for layer, matrix, number, expert in self._experts(name, tensor):
                if stacks.setdefault((layer, matrix), {}).setdefault(number, expert) is not expert:
                    raise ConvertError(f'expert {number} of {_target(layer, matrix)} is there twice: once in "{name}"')
        weights = [*super().extra_weights()]
        for layer, matrix in sorted(stacks, key=lambda stack: (stack[0], _ORDER.index(stack[1]))):
            target, experts = _target(layer, matrix), stacks[layer, matrix]
            self._check_numbers(target, experts)
            parts = (Part(experts[number], experts[number].shape) for number in sorted(experts))
            weights.append(Weight(target, tuple(parts)))
        return weights + self._routers()

    def block_shapes(self) -> Shapes:
        """With experts and router instead of the one network."""
        shapes, count = super().block_shapes(), self.expert_count
        # Of a single expert there is no stack.
        stack = (count,) if count > 1 else ()
        for name in ("gate", "up", "down"):
            shapes[f"ffn_{name}_exps.weight"] = (*stack, *shapes.pop(f"ffn_{name}.weight"))
        return {**shapes, "ffn_gate_inp.weight": (count, self.embedding_length)}

    def _experts(self, name: str, tensor: StoredTensor) -> Iterable[tuple[int, str, int, StoredTensor]]:
        """Matrices of single experts in one of the model's tensors: layer, ``w1`` to ``w3``, the expert's number."""
        if single := _SINGLE.fullmatch(name):
            yield int(single[1]), single[3], int(single[2]), tensor
        elif fused := _FUSED.fullmatch(name):
            inner, width = self.config.whole("intermediate_size", least=1), self.embedding_length
            rows, columns = (2 * inner, width) if fused[2] == "gate_up_proj" else (width, inner)
            if tensor.shape != (self.expert_count, rows, columns):
                raise ConvertError(
                    f'tensor "{name}" has the shape {list(tensor.shape)}, '
                    f"but by config.json it is {[self.expert_count, rows, columns]}"
                )
            for number in range(self.expert_count):
                layer, expert = int(fused[1]), tensor.entry(number)
                if fused[2] == "down_proj":
                    yield layer, "w2", number, expert
                else:
                    yield layer, "w1", number, expert.rows(0, inner)
                    yield layer, "w3", number, expert.rows(inner, 2 * inner)

    def _routers(self) -> list[Weight]:
        found = [(match, tensor) for name, tensor in self.tensors.items() if (match := _ROUTER.fullmatch(name))]
        found.sort(key=lambda router: int(router[0][1]))
        return [self.weight(f"blk.{int(match[1])}.ffn_gate_inp.weight", tensor) for match, tensor in found]

    def _check_numbers(self, target: str, experts: dict[int, StoredTensor]) -> None:
        if missing := sorted(set(range(self.expert_count)) - set(experts)):
            raise ConvertError(f"{target} has no expert {missing[0]}", hint="A file of the model may be missing.")
        if len(experts) > self.expert_count:
            raise ConvertError(
                f"{target} has an expert {max(experts)}, but config.json says {self.expert_count} experts"
            )


def _target(layer: int, matrix: str) -> str:
    return f"blk.{layer}.{_NAMES[matrix]}.weight"
