"""``/api/blobs/:digest``: files of any size, straight from the socket to the store.

The body never stands in memory: Tornado hands over chunks, a thread writes and hashes them, and the socket waits
while the disk is behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from tornado import web

from ollama_nb.server.base import ApiHandler
from ollama_nb.wire.errors import NotFoundError, OllamaError
from ollama_nb.wire.names import parse_digest

if TYPE_CHECKING:
    from ollama_nb.store.blobs import BlobWriter

__all__ = ["BlobHandler"]


@web.stream_request_body
class BlobHandler(ApiHandler):
    """HEAD asks whether a blob is there, POST brings one."""

    _writer: BlobWriter | None = None
    _upload = contextlib.ExitStack()
    _refusal: OllamaError | None = None

    async def prepare(self) -> None:
        """After the door has let the request in: lift the body limit and open the file."""
        admitted = super().prepare()
        if admitted is not None:
            await admitted
        if self.request.method != "POST" or self._finished:
            return
        connection: Any = self.request.connection  # HTTP/1's, which Tornado's interface does not name
        connection.set_max_body_size(sys.maxsize)
        try:
            digest = parse_digest(self.path_args[0])
            is_here = await asyncio.to_thread(self.runtime.store.blobs.refresh, digest)
            if not is_here:
                self._upload = contextlib.ExitStack()
                writer = self.runtime.store.blobs.writer()
                self._writer = await asyncio.to_thread(self._upload.enter_context, writer)
            if self._gone:
                self._discard()
        except OllamaError as error:
            self._refusal = error
        except OSError as error:
            self._refusal = _cannot_store(error)

    async def data_received(self, chunk: bytes) -> None:
        """A piece of the body; dropped where the blob is there already or the request is refused."""
        if self._writer is None:
            return
        try:
            await asyncio.to_thread(self._writer.write, chunk)
        except (OSError, ValueError) as error:  # ValueError: closed meanwhile, since the client went away
            self._discard()
            self._refusal = _cannot_store(error)

    async def head(self, digest: str) -> None:
        """200 if it is there, 404 if not."""

        async def look() -> None:
            """Raise where it is not."""
            if not await asyncio.to_thread(self.runtime.store.blobs.exists, parse_digest(digest)):
                raise NotFoundError(f'blob "{digest}" not found')

        await self.serve(look)

    async def post(self, digest: str) -> None:
        """201 when stored, 200 when it was there; what does not match its digest is not kept."""

        async def keep() -> None:
            """Commit what has been received."""
            if self._refusal is not None:
                raise self._refusal
            if self._writer is not None:
                try:
                    await asyncio.to_thread(self._writer.commit, parse_digest(digest))
                except OSError as error:
                    raise _cannot_store(error) from error
                self.set_status(HTTPStatus.CREATED)

        await self.serve(keep)

    def on_connection_close(self) -> None:
        """A client that went away in mid-upload leaves no file."""
        self._discard()
        super().on_connection_close()

    def on_finish(self) -> None:
        """Whatever happened, nothing half-written stays."""
        self._discard()
        super().on_finish()

    def _discard(self) -> None:
        self._writer = None
        self._upload.close()


def _cannot_store(error: Exception) -> OllamaError:
    return OllamaError(f"cannot store the blob: {error}", hint="is the disk full?")
