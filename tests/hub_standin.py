"""A stand-in for the Hugging Face Hub on loopback, since no test may reach the real one.

It has the endpoints that huggingface-hub and a download ask for, as the real hub has them: the description of a
repository, ``resolve`` with its redirects, and a second server in the place of the CDN, which serves ranges by signed
addresses and refuses who shows it a token. What the real hub refuses is refused with its statuses and headers.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKEN: Final = "hf_of_somebody"
_LARGE: Final = (".gguf", ".safetensors", ".bin", "tokenizer.model")
"""Endings of the names that Git LFS keeps, as the hub's ``.gitattributes`` says."""
_PIECE: Final = 1 << 20
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass(slots=True)
class Asked:
    """A request that came; names of headers in small letters."""

    server: str
    path: str
    headers: dict[str, str]


@dataclass(slots=True)
class Stored:
    """A file of a repository: its path on this disk, its size, its SHA-256 if Git LFS keeps it."""

    path: Path
    size: int
    sha256: str = ""


@dataclass(slots=True)
class Repo:
    """A repository, and who may see it: ``gated`` ones are listed for all and read by those with a token."""

    files: dict[str, Stored]
    private: bool = False
    gated: bool = False
    sha: str = "5" * 40


@dataclass(slots=True)
class Trouble:
    """What every answer is meanwhile: a status, or a body that is no description."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)


class HubStandin:
    """``with HubStandin(folder) as hub``: repositories are added while it runs, small contents lie in the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repos: dict[str, Repo] = {}
        self.asked: list[Asked] = []
        self.trouble: Trouble | None = None
        self.signature = "abc"
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), kind) for kind in (_Hub, _Storage)]
        for server in self._servers:
            server.daemon_threads = True
            server.standin = self  # type: ignore[attr-defined]
        self.url, self.storage = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)
        self._threads = [
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}) for server in self._servers
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()

    def add(self, name: str, files: Mapping[str, Path | bytes | str], **more: Any) -> Repo:
        """Publish a repository."""
        repo = self.repos[name] = Repo({path: self._stored(path, content) for path, content in files.items()}, **more)
        return repo

    def _stored(self, name: str, content: Path | bytes | str) -> Stored:
        if not isinstance(content, Path):
            data = content.encode() if isinstance(content, str) else content
            content = self.folder / hashlib.sha256(data).hexdigest()
            content.write_bytes(data)
        sha256 = ""
        if name.endswith(_LARGE):
            with content.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return Stored(content, content.stat().st_size, sha256)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args: object) -> None:
        """Nothing is told; tests look at what was asked."""

    @property
    def hub(self) -> HubStandin:
        return self.server.standin  # type: ignore[attr-defined,no-any-return]

    @property
    def knows(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def note(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.asked.append(Asked("hub" if isinstance(self, _Hub) else "storage", self.path, headers))

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status: int, code: str, message: str) -> None:
        self.send(status, json.dumps({"error": message}).encode(), X_Error_Code=code, X_Error_Message=message)

    def send_file(self, file: Stored) -> None:
        start, stop, status, more = 0, file.size, 200, {}
        if match := _RANGE.fullmatch(self.headers.get("Range", "")):
            start, stop, status = int(match[1]), min(int(match[2]) + 1, file.size), 206
            more["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size}"
        self.send_response(status)
        for name, value in {"Content-Length": str(stop - start), "Accept-Ranges": "bytes", **more}.items():
            self.send_header(name, value)
        self.end_headers()
        with file.path.open("rb") as data:
            data.seek(start)
            while start < stop:
                piece = data.read(min(_PIECE, stop - start))
                self.wfile.write(piece)
                start += len(piece)


class _Hub(_Handler):
    def do_GET(self) -> None:
        self.note()
        if trouble := self.hub.trouble:
            self.send(trouble.status, trouble.body, **trouble.headers)
            return
        if self.headers.get("Authorization") and not self.knows:
            self.refuse(401, "", "Invalid credentials in Authorization header")
            return
        path = unquote(urlsplit(self.path).path)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)", path):
            self.describe(match[1])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve(*match.groups())
        elif match := re.fullmatch(r"/api/resolve-cache/models/([^/]+/[^/]+)/([^/]+)/(.+)", path):
            self.send_file(self.hub.repos[match[1]].files[match[3]])
        else:
            self.refuse(404, "", "Sorry, we can't find the page you are looking for.")

    def found(self, name: str) -> Repo | None:
        """The repository, if it is there for who asks; else it is refused as the hub does."""
        repo = self.hub.repos.get(name)
        if repo is not None and (self.knows or not repo.private):
            return repo
        # Who is known is told that it is not there; strangers are told nothing.
        status, text = (404, "Repository not found") if self.knows else (401, "Invalid username or password.")
        self.refuse(status, "RepoNotFound", text)
        return None

    def describe(self, name: str) -> None:
        repo = self.found(name)
        if repo is None:
            return
        blobs = parse_qs(urlsplit(self.path).query).get("blobs") == ["True"] or "blobs=true" in self.path
        about = {
            "_id": "0" * 24,
            "id": name,
            "modelId": name,
            "author": name.split("/", maxsplit=1)[0],
            "sha": repo.sha,
            "private": repo.private,
            "gated": "manual" if repo.gated else False,
            "disabled": False,
            "lastModified": "2025-07-30T10:00:00.000Z",
            "createdAt": "2025-07-30T10:00:00.000Z",
            "downloads": 5,
            "likes": 1,
            "tags": ["gguf"],
            "siblings": [_sibling(path, file, blobs=blobs) for path, file in sorted(repo.files.items())],
        }
        self.send(200, json.dumps(about).encode(), Content_Type="application/json; charset=utf-8")

    def resolve(self, name: str, revision: str, path: str) -> None:
        repo = self.found(name)
        if repo is None:
            return
        if repo.gated and not self.knows:
            self.refuse(401, "GatedRepo", f"Access to model {name} is restricted. You must have access to it.")
        elif revision != repo.sha:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif (file := repo.files.get(path)) is None:
            self.refuse(404, "EntryNotFound", "Entry not found")
        elif file.sha256:
            place = f"{self.hub.storage}/repos/{file.sha256}?Signature={self.hub.signature}"
            etag = {"X_Linked_ETag": f'"{file.sha256}"', "X_Linked_Size": str(file.size)}
            self.send(302, Location=place, X_Repo_Commit=repo.sha, **etag)
        else:
            self.send(307, Location=f"/api/resolve-cache/models/{name}/{revision}/{path}", X_Repo_Commit=repo.sha)


class _Storage(_Handler):
    def do_GET(self) -> None:
        self.note()
        if "Authorization" in self.headers:
            self.send(400, b"<Error><Code>InvalidArgument</Code></Error>")
        elif not self.path.endswith(f"?Signature={self.hub.signature}"):
            self.send(403, b"<Error><Code>AccessDenied</Code></Error>")
        else:
            sha256 = self.path.rpartition("/")[2].partition("?")[0]
            files = [file for repo in self.hub.repos.values() for file in repo.files.values()]
            self.send_file(next(file for file in files if file.sha256 == sha256))


def _sibling(path: str, file: Stored, *, blobs: bool) -> dict[str, Any]:
    if not blobs:
        return {"rfilename": path}
    about: dict[str, Any] = {"rfilename": path, "size": file.size, "blobId": "b" * 40}
    if file.sha256:
        about["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": 134}
    return about
