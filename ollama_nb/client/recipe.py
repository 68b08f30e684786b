"""What a create call asks for before any file is sent: a Modelfile and the fields beside it, made one request.

The Modelfile is read, its files are found (``modelfolder``), and what cannot work is refused at once, so that nothing
is sent in vain. Sending is left to ``creation``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from ollama_nb.client.files import readable
from ollama_nb.client.modelfolder import Components, expand_path, find_components
from ollama_nb.client.protocol import CreateFields, create_call
from ollama_nb.client.reply import present
from ollama_nb.wire.errors import BadRequestError, NotImplementedYetError
from ollama_nb.wire.modelfile import Modelfile, ModelfileError, parse
from ollama_nb.wire.names import parse_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ollama_nb.client.models import Progress
    from ollama_nb.client.protocol import StreamCall

__all__ = ["ModelfileSource", "Recipe"]

ModelfileSource: TypeAlias = Modelfile | str | Path
"""A Modelfile: as a value, as text, or the path of a file. Paths in the first two begin in the working folder."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A request for a new model whose files are not sent yet, and what there is to warn of before."""

    model: str
    fields: Mapping[str, Any]
    components: Components
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: str, source: ModelfileSource | None, fields: CreateFields) -> Recipe:
        """What a Modelfile and the fields beside it ask for; a field goes before the Modelfile, parameters one by one.

        Raises ``ModelfileError`` for a Modelfile that cannot be read, and ``BadRequestError`` and others for one that
        does not fit what is on this disk.
        """
        given = present(**fields)
        if source is None:
            return cls(model, given, Components(None, {}, {}))
        if twice := sorted({"from_", "files", "adapters"} & given.keys()):
            raise BadRequestError(f"{', '.join(twice)}: beside a Modelfile, its FROM and ADAPTER lines say that")
        modelfile, folder = _read(source)
        warnings = (*modelfile.warnings, *_unused(modelfile))
        components = find_components(modelfile, folder)
        if components.files or components.adapters:
            parse_name(model)  # or all files would be sent before the server says so
        said = _fields(modelfile)
        parameters = {**said.pop("parameters", {}), **given.pop("parameters", {})}
        base = present(from_=components.from_, parameters=parameters or None)
        return cls(model, {**base, **said, **given}, components, warnings)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files to send, each once."""
        return tuple(dict.fromkeys((*self.components.files.values(), *self.components.adapters.values())))

    def call(self, digests: Mapping[Path, str]) -> StreamCall[Progress, Progress]:
        """The request, once all files are at the server under their digests."""
        parts = {"files": self.components.files, "adapters": self.components.adapters}
        sent = {part: {name: digests[path] for name, path in files.items()} for part, files in parts.items() if files}
        return create_call(self.model, cast("CreateFields", {**self.fields, **sent}))


def _read(source: ModelfileSource) -> tuple[Modelfile, Path]:
    """The Modelfile, and the folder where its relative paths begin."""
    if isinstance(source, Modelfile):
        return source, Path.cwd()
    if isinstance(source, Path):
        path = expand_path(source, Path())
        with readable(path):
            return parse(path.read_bytes()), path.parent.absolute()
    try:
        return parse(source), Path.cwd()
    except ModelfileError as error:
        if "\n" in source.strip():
            raise
        hint = f"A text is read as a Modelfile; for a file, give a path: Path({source.strip()!r})."
        raise ModelfileError(error.message, line=error.line, hint=hint) from error


def _fields(modelfile: Modelfile) -> dict[str, Any]:
    """What a Modelfile says beside FROM and ADAPTER, as fields of a create request."""
    return present(
        template=modelfile.template_text,
        system=modelfile.system_text,
        license=list(modelfile.licenses) or None,
        parameters=modelfile.parameters or None,
        messages=[message._asdict() for message in modelfile.messages] or None,
    )


def _unused(modelfile: Modelfile) -> Iterator[str]:
    """Warnings of what is left out; raises where leaving it out would make another model than is meant."""
    newer = {"RENDERER": modelfile.renderer_name, "PARSER": modelfile.parser_name, "DRAFT": modelfile.drafts}
    for instruction, value in newer.items():
        if value:
            raise NotImplementedYetError(
                f"{instruction} is of newer versions of Ollama and cannot be used here",
                hint="Leave the line out; a TEMPLATE says how prompts are written and answers are read.",
            )
    if modelfile.required_version is not None:
        yield f"warning: REQUIRES {modelfile.required_version} is about Ollama's versions and is not checked"
    for path in modelfile.adapters[:-1]:
        yield f"warning: ADAPTER {path} is not used: only the last one counts"
