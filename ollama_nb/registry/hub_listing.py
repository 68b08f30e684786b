"""What the library ``huggingface_hub`` says of a repository: its files at the newest commit, and the user's token.

The library asks the hub, so that HF_ENDPOINT, HF_TOKEN, the token of ``hf auth login`` and HF_HUB_OFFLINE mean what
they mean everywhere else. It is heavy and blocks: this module is imported when it is needed and called in a thread, see
``huggingface``. Nothing is written into the user's cache of the hub, and nothing is told about the user but the token.
"""

from __future__ import annotations

import importlib
import re
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import huggingface_hub
from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented, but not in __all__

from ollama_nb import __version__
from ollama_nb.registry.hub_errors import Place, refusal
from ollama_nb.registry.hub_files import HubFile
from ollama_nb.registry.source import LineError
from ollama_nb.registry.transport import OFFLINE, reason_of
from ollama_nb.wire.errors import BadRequestError, RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from huggingface_hub import ModelInfo

__all__ = ["Repository", "list_repository"]

_CLIENT: Final[Any] = importlib.import_module("httpx" if huggingface_hub.__version__.startswith("1.") else "httpx2")
"""The library's HTTP client, whose errors it lets through: another one since its version 2."""

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")

# The library would fetch a list of AI agents, look for one around us, keep the list in the user's cache, and tell.
constants.HF_HUB_DISABLE_TELEMETRY = True


class Repository(NamedTuple):
    """A repository, its files, and the ``Authorization`` (or "") that its own host, and nobody else, may be sent."""

    place: Place
    files: tuple[HubFile, ...]
    authorization: str


def list_repository(repo: str, name: str, timeout: float) -> Repository:
    """The files of ``user/repo``, which users know as ``name``; ``timeout`` in seconds of silence.

    Raises ``LineError`` for what may be over soon, ``NotFoundError``, ``BadRequestError`` and ``RegistryError``.
    """
    place = Place(name, f"{constants.ENDPOINT}/{repo}")
    try:
        api = HfApi(library_name="ollama_nb", library_version=__version__)
        info = api.model_info(repo, files_metadata=True, timeout=timeout)
        files = tuple(_files(info))
        headers = build_hf_headers()
    except OfflineModeIsEnabled as error:
        raise RegistryError(
            f"{name} cannot be pulled: HF_HUB_OFFLINE keeps this server off the Hugging Face Hub",
            status=HTTPStatus.SERVICE_UNAVAILABLE,
            hint="Start the server without HF_HUB_OFFLINE, or create the model from files that are here.",
        ) from error
    except HFValidationError as error:
        raise BadRequestError(f"{name} is no name of a repository", hint=f"The hub's rule: {error}") from error
    except HfHubHTTPError as error:
        raise refusal(error.response.status_code, error.response.headers, place) from error
    except (_CLIENT.InvalidURL, _CLIENT.UnsupportedProtocol) as error:
        raise RegistryError(
            f"HF_ENDPOINT is no address of a hub: {constants.ENDPOINT}", hint="Write it as https://host."
        ) from error
    except (_CLIENT.HTTPError, OSError) as error:
        text = f"the Hugging Face Hub ({constants.ENDPOINT}) cannot be reached: {reason_of(error)}"
        raise LineError(text, hint=OFFLINE) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # The library takes to pieces what it is sent without looking at it first.
        raise RegistryError(f"{constants.ENDPOINT} answers what is no description of a repository") from error
    return Repository(place, files, headers.get("authorization", ""))


def _files(info: ModelInfo) -> Iterable[HubFile]:
    """The files at the commit that was listed. Raises ``ValueError`` for what is no commit, no size or no hash."""
    if not _COMMIT.fullmatch(info.sha or ""):
        raise ValueError("no commit")
    for file in info.siblings or ():
        path = PurePosixPath(file.rfilename)
        # Such a path would lead elsewhere in a URL; Git has none.
        if path.is_absolute() or ".." in path.parts or path.as_posix() != file.rfilename:
            continue
        # Git has these, and who reads of them in an error may see anything.
        if not file.rfilename.isprintable():
            continue
        size = file.lfs.size if file.lfs else file.size
        sha256 = file.lfs.sha256.lower() if file.lfs else ""
        if not isinstance(size, int) or size < 0 or (file.lfs and not _SHA256.fullmatch(sha256)):
            raise ValueError("no size or no hash")
        digest = f"sha256:{sha256}" if file.lfs else ""
        yield HubFile(file.rfilename, hf_hub_url(info.id, file.rfilename, revision=info.sha), size, digest)
