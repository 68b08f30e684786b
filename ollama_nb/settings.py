"""Every OLLAMA_* variable in one table: its name, type, default, meaning and parser.

The command line, the Jupyter traits and the documentation all mirror ``SETTINGS``; ``Settings.resolve`` makes one
frozen value of what the options, the environment and the table say. What a setting does is left to the part
that it configures; proxies are left to the HTTP client, and the choice of devices to the drivers' own variables.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from ollama_nb.wire.durations import FOREVER, MINUTE, SECOND, parse_duration
from ollama_nb.wire.errors import BadRequestError
from ollama_nb.wire.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["DEFAULT_CONTEXT_LENGTH", "SETTINGS", "Host", "Setting", "Settings"]

DEFAULT_CONTEXT_LENGTH: Final = 4096
"""Tokens of context when nobody says otherwise."""

_log = logging.getLogger("ollama_nb.settings")

_MAX_UNSIGNED: Final = (1 << 64) - 1
_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_DEBUG_LEVEL: Final = -4
_TRACE: Final = 5
_CACHE_TYPES: Final = ("f16", "q8_0", "q4_0")


def _parse_bool(text: str) -> bool:
    """Go's ParseBool, with every other word meaning yes, as Ollama reads its switches."""
    return text in _TRUE or text not in _FALSE


def _parse_unsigned(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,20}", text) or int(text) > _MAX_UNSIGNED:
        raise ValueError(f"{text!r} is not an unsigned integer")
    return int(text)


def _parse_duration_setting(text: str) -> int:
    """Nanoseconds of a Go duration or of an integer number of seconds."""
    try:
        return parse_duration(text)
    except BadRequestError as error:
        if not re.fullmatch(r"[+-]?[0-9]{1,19}", text):
            raise ValueError(str(error)) from None
        return min(int(text) * SECOND, FOREVER)


def _parse_debug(text: str) -> int:
    """Ollama's log level: a true word is DEBUG, an integer n is -4n, anything else INFO."""
    if text in _TRUE:
        return _DEBUG_LEVEL
    return int(text) * _DEBUG_LEVEL if re.fullmatch(r"[+-]?[0-9]{1,6}", text) else 0


def _parse_origins(text: str) -> tuple[str, ...]:
    return tuple(entry.strip() for entry in text.split(",") if entry.strip())


def _parse_cache_type(text: str) -> str:
    if text.lower() not in _CACHE_TYPES:
        raise ValueError(f"{text!r} is none of {', '.join(_CACHE_TYPES)}")
    return text.lower()


def _as_given(value: Any) -> Any:  # noqa: ANN401 - each row has its own type
    return value


def _not_negative(value: int) -> int:
    if value < 0:
        raise ValueError(f"{value} is negative")
    return value


def _at_least_one(value: int) -> int:
    return max(_not_negative(value), 1)


def _context_length(value: int) -> int:
    return _not_negative(value) or DEFAULT_CONTEXT_LENGTH


def _negative_is_forever(value: int) -> int:
    return FOREVER if value < 0 else value


def _nothing_is_forever(value: int) -> int:
    return FOREVER if value <= 0 else value


def _log_level(value: int) -> int:
    return _DEBUG_LEVEL if value is True else int(value)


def _expand_optional(value: Path | None) -> Path | None:
    return None if value is None else _expand_user(value)


def _expand_user(value: Path) -> Path:
    try:
        return value.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{str(value)!r}: {error}") from None


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table.

    ``parse`` reads a trimmed, non-empty text; ``settle`` checks and completes any value, parsed or typed: both
    raise ValueError for a bad one. ``accepts`` names further types that an option may have.
    """

    name: str
    kind: type
    default: Any
    help: str
    parse: Callable[[str], Any]
    settle: Callable[[Any], Any] = _as_given
    accepts: tuple[type, ...] = ()

    @property
    def field(self) -> str:
        """The attribute of Settings: the variable's name in small letters, without ``OLLAMA_``."""
        return self.name.removeprefix("OLLAMA_").lower()

    def typed(self, value: object) -> Any:  # noqa: ANN401 - each row has its own type
        """A value from code, checked. Raises TypeError for another type and ValueError past its range."""
        allowed = (self.kind, *self.accepts)
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            raise TypeError(f"{self.field} must be {self.kind.__name__}, not {type(value).__name__}")
        return self.settle(value)


def _switch(name: str, text: str, *, default: bool | None = False) -> Setting:
    return Setting(name=name, kind=bool, default=default, help=text, parse=_parse_bool)


def _count(name: str, default: int, text: str, settle: Callable[[int], int] = _not_negative) -> Setting:
    return Setting(name=name, kind=int, default=default, help=text, parse=_parse_unsigned, settle=settle)


def _word(name: str, text: str) -> Setting:
    return Setting(name=name, kind=str, default="", help=text, parse=str)


def _file(name: str, text: str) -> Setting:
    return Setting(name=name, kind=Path, default=None, help=text, parse=Path, settle=_expand_optional)


def _span(name: str, text: str, settle: Callable[[int], int]) -> Setting:
    return Setting(
        name=name,
        kind=int,
        default=5 * MINUTE,
        help=text,
        parse=_parse_duration_setting,
        settle=settle,
    )


_UNUSED: Final = " Not used by this version."

SETTINGS: Final[tuple[Setting, ...]] = (
    Setting(
        name="OLLAMA_HOST",
        kind=Host,
        default=Host(),
        parse=Host.parse,
        help="Where the server listens and clients look for it: [scheme://]host[:port][/path].",
    ),
    Setting(
        name="OLLAMA_ORIGINS",
        kind=tuple,
        default=(),
        parse=_parse_origins,
        settle=tuple,
        accepts=(list,),
        help="Origins of web pages that may call the server besides those on this machine, separated by commas.",
    ),
    Setting(
        name="OLLAMA_MODELS",
        kind=Path,
        default=Path("~/.ollama/models"),
        parse=Path,
        settle=_expand_user,
        help="The folder of the model store, shared with Ollama.",
    ),
    _span(
        "OLLAMA_KEEP_ALIVE",
        "How long an idle model stays loaded: a duration such as 5m or a number of seconds; "
        "negative keeps it forever, 0 unloads it at once.",
        _negative_is_forever,
    ),
    _span(
        "OLLAMA_LOAD_TIMEOUT",
        "How long loading a model may stand still before it is given up; 0 or less waits forever.",
        _nothing_is_forever,
    ),
    _count("OLLAMA_NUM_PARALLEL", 1, "Requests that one model answers at the same time.", _at_least_one),
    _count("OLLAMA_MAX_LOADED_MODELS", 0, "Models loaded at the same time; 0 chooses by the devices."),
    _count("OLLAMA_MAX_QUEUE", 512, "Requests that may wait before the server answers that it is busy."),
    _count(
        "OLLAMA_CONTEXT_LENGTH",
        DEFAULT_CONTEXT_LENGTH,
        "Tokens of context when neither model nor request says; 0 means the default.",
        _context_length,
    ),
    _switch("OLLAMA_FLASH_ATTENTION", "Flash attention on or off; unset leaves it to the engine.", default=None),
    Setting(
        name="OLLAMA_KV_CACHE_TYPE",
        kind=str,
        default="f16",
        parse=_parse_cache_type,
        help="How the context cache is stored: f16, q8_0 or q4_0; the latter two need flash attention.",
    ),
    Setting(
        name="OLLAMA_DEBUG",
        kind=int,
        default=0,
        parse=_parse_debug,
        settle=_log_level,
        accepts=(bool,),
        help="How much is logged: 1 or true for debugging, 2 for a trace.",
    ),
    _switch("OLLAMA_NOPRUNE", "Keep blobs that no model uses instead of removing them."),
    _count("OLLAMA_GPU_OVERHEAD", 0, "Bytes of memory to leave free on each GPU." + _UNUSED),
    _switch("OLLAMA_SCHED_SPREAD", "Spread every model over all GPUs." + _UNUSED),
    _switch("OLLAMA_MULTIUSER_CACHE", "Choose cache slots for many users." + _UNUSED),
    _switch("OLLAMA_NEW_ENGINE", "Ollama's choice between its own engines." + _UNUSED),
    _word("OLLAMA_LLM_LIBRARY", "The backend library to force." + _UNUSED),
    _word("OLLAMA_LIBRARY_PATH", "Folders of backend libraries." + _UNUSED),
    _switch("OLLAMA_NOHISTORY", "Keep no history of the interactive prompt." + _UNUSED),
    _word("OLLAMA_EDITOR", "The editor of the interactive prompt." + _UNUSED),
    _switch("OLLAMA_AUTH", "Sign the client's requests to the server." + _UNUSED),
    _switch("OLLAMA_INTEL_GPU", "Look for Intel GPUs." + _UNUSED),
    _switch("OLLAMA_IGPU_ENABLE", "Use integrated GPUs." + _UNUSED),
    _switch("OLLAMA_VULKAN", "Use the Vulkan backend." + _UNUSED),
    _word("OLLAMA_EXPERIMENT", "Names of experiments to switch on." + _UNUSED),
    _count("OLLAMA_REGISTRY_MAXSTREAMS", 0, "Parallel streams of Ollama's experimental registry client." + _UNUSED),
    _count("OLLAMA_MAX_TRANSFER_STREAMS", 4, "Connections over which one layer is pulled.", _at_least_one),
    _switch("OLLAMA_GO_TEMPLATE", "Prefer a model's Go template to the GGUF's Jinja template." + _UNUSED, default=True),
    _switch("OLLAMA_DEBUG_LOG_REQUESTS", "Write the requests to files for debugging." + _UNUSED),
    _switch("OLLAMA_NB_ALLOW_OPEN", "Let the stand-alone listener bind beyond loopback without a key."),
    _file("OLLAMA_NB_CERTFILE", "The certificate (PEM, with its chain) by which the stand-alone listener speaks TLS."),
    _file("OLLAMA_NB_KEYFILE", "The certificate's private key (PEM); not needed where it is in the same file."),
    Setting(
        name="OLLAMA_NB_HOME",
        kind=Path,
        default=Path("~/.ollama"),
        parse=Path,
        settle=_expand_user,
        help="The folder of what belongs to the user and not to the store: the API keys, and the key for registries.",
    ),
    _word("OLLAMA_NB_ADDRESS", "Where the server answers; the Jupyter extension sets it for its kernels."),
)
"""The one table, in the order in which a user meets it."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for this process; one attribute per row of SETTINGS, where the meanings and defaults stand.

    ``keep_alive`` and ``load_timeout`` are in ns (FOREVER for no end), ``gpu_overhead`` in bytes,
    ``context_length`` in tokens; ``debug`` is a level of Go's slog (0 info, -4 debug, -8 trace).
    ``sources`` tells for each attribute whether it came from an "option", the "environment" or the "default".
    """

    host: Host
    origins: tuple[str, ...]
    models: Path
    keep_alive: int
    load_timeout: int
    num_parallel: int
    max_loaded_models: int
    max_queue: int
    context_length: int
    flash_attention: bool | None
    kv_cache_type: str
    debug: int
    noprune: bool
    gpu_overhead: int
    sched_spread: bool
    multiuser_cache: bool
    new_engine: bool
    llm_library: str
    library_path: str
    nohistory: bool
    editor: str
    auth: bool
    intel_gpu: bool
    igpu_enable: bool
    vulkan: bool
    experiment: str
    registry_maxstreams: int
    max_transfer_streams: int
    go_template: bool
    debug_log_requests: bool
    nb_allow_open: bool
    nb_certfile: Path | None
    nb_keyfile: Path | None
    nb_home: Path
    nb_address: str
    sources: Mapping[str, str]

    @property
    def log_level(self) -> int:
        """``debug`` as a level of Python's logging: 20 for information, 10 for debugging, 5 for a trace."""
        return {0: logging.INFO, _DEBUG_LEVEL: logging.DEBUG}.get(
            self.debug, _TRACE if self.debug < 0 else logging.WARNING
        )

    @classmethod
    def resolve(
        cls,
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, object] | None = None,
    ) -> Self:
        """Options before environment before default, each row by itself.

        ``overrides`` has attribute names as keys: None means not given, a text is read like the environment's, any
        other value must have the row's type. A text that cannot be read is logged as a warning and gives the
        default. ``environ`` is the process's own when None. Raises TypeError for an unknown or wrongly typed
        option, ValueError for a typed one out of range.
        """
        environ = os.environ if environ is None else environ
        given = {field: value for field, value in (overrides or {}).items() if value is not None}
        unknown = set(overrides or ()) - {setting.field for setting in SETTINGS}
        if unknown:
            raise TypeError(f"unknown settings: {', '.join(sorted(unknown))}")
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}
        for setting in SETTINGS:
            option = given.get(setting.field)
            if option is not None and not isinstance(option, str):
                value, source = setting.typed(option), "option"
            else:
                value, source = _read(setting, _clean(option), _clean(environ.get(setting.name)))
            values[setting.field], sources[setting.field] = value, source
        return cls(**values, sources=MappingProxyType(sources))


def _clean(text: object) -> str:
    """The text without spaces around it, then without quotes; empty when there is none."""
    return text.strip().strip("\"'") if isinstance(text, str) else ""


def _read(setting: Setting, option: str, variable: str) -> tuple[Any, str]:
    """The value of a row from its two texts, and which of them gave it."""
    text, source = (option, "option") if option else (variable, "environment")
    if text:
        try:
            return setting.settle(setting.parse(text)), source
        except ValueError as error:
            _log.warning("%s: %s; using the default", setting.name, error)
    return setting.settle(setting.default), "default"
