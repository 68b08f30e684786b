"""Drafts of models from files that are blobs here: what goes together, and the template that the weights imply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ollama_nb.gguf.adapters import check_adapter
from ollama_nb.prompt.gotemplate import TemplateError
from ollama_nb.prompt.known import recognise
from ollama_nb.prompt.render import prompt_template
from ollama_nb.service.resolve import header_of, token_text
from ollama_nb.store.drafts import ModelDraft
from ollama_nb.store.manifests import MediaType
from ollama_nb.wire.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ollama_nb.gguf.reader import Header
    from ollama_nb.store.blobs import BlobStore

__all__ = ["adapted", "check_template", "of_gguf", "silent", "weights", "with_known_template"]


def silent(_status: str) -> None:
    """For files that the user does not know of."""


def weights(draft: ModelDraft) -> str:
    """The digest of a draft's weights; raises ``BadRequestError`` in Ollama's words where it has none."""
    if draft.weights is None:
        raise BadRequestError(
            "no base model was found", hint="FROM names the model that an adapter or a projector is for."
        )
    return draft.weights


def of_gguf(files: Mapping[str, str], blobs: BlobStore, report: Callable[[str], None]) -> ModelDraft:
    """The draft of GGUF files that go together: one model, its projectors, adapters that fit to it."""
    draft = ModelDraft.from_gguf(files, blobs, report)
    if len(draft.digests(MediaType.MODEL)) > 1:
        raise BadRequestError(
            "the files hold more than one model",
            hint="The parts of a split GGUF are put together by llama.cpp's gguf-split --merge.",
        )
    base = blobs.path(weights(draft))
    for adapter in draft.digests(MediaType.ADAPTER):
        check_adapter(header_of(blobs.path(adapter)), header_of(base))
    return draft


def adapted(
    draft: ModelDraft, files: Mapping[str, str], base: Header, blobs: BlobStore, report: Callable[[str], None]
) -> ModelDraft:
    """The draft with an adapter that fits to it."""
    whole = draft.with_adapters(files, blobs, report)
    (digest,) = files.values()
    check_adapter(header_of(blobs.path(digest)), base)
    return whole


def with_known_template(draft: ModelDraft, blobs: BlobStore) -> tuple[ModelDraft, str]:
    """The draft with the template that its weights' chat template is known to mean, and their default system text."""
    if draft.weights is None:
        return draft, ""
    header = header_of(blobs.path(draft.weights))
    source = header.metadata.get("tokenizer.chat_template")
    if not isinstance(source, str):
        return draft, ""
    known = recognise(source, bos=token_text(header, "bos"), eos=token_text(header, "eos"))
    if known is None:
        return draft, ""
    params = {"stop": list(known.stop)}
    return draft.with_known_template(known.name, known.template, params), known.default_system


def check_template(source: str) -> None:
    """Raises ``BadRequestError`` in Ollama's words for a template that does not parse."""
    if not source:
        return
    try:
        prompt_template(source)
    except TemplateError as error:
        raise BadRequestError(f"template error: {error}") from error
