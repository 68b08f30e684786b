"""A stand-in for the server: Tornado on a loopback port, in a thread, with canned answers that say what was asked.

It stands for the real server so that a client can be tested against what a real one seldom does: break off in the
middle, report an error in a stream, send what no client should accept.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from dataclasses import dataclass, field
from typing import Any, Self

from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

TIMES = {
    "total_duration": 3_000_000_000,
    "load_duration": 500_000_000,
    "prompt_eval_count": 20,
    "prompt_eval_duration": 250_000_000,
    "eval_count": 30,
    "eval_duration": 2_000_000_000,
}
DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "134.52M",
    "quantization_level": "Q4_1",
}
TAGS = {
    "models": [
        {
            "name": "smollm2:135m",
            "model": "smollm2:135m",
            "modified_at": "2025-07-30T10:00:00.123456789+02:00",
            "size": 98_400_000,
            "digest": "0123456789abcdef" * 4,
            "details": DETAILS,
        },
        {"name": "Other:latest", "model": "Other:latest", "size": 12_345_678_901, "digest": "f" * 64},
    ]
}
PS = {
    "models": [
        {
            "name": "smollm2:135m",
            "model": "smollm2:135m",
            "size": 200_000_000,
            "size_vram": 50_000_000,
            "digest": "0123456789abcdef" * 4,
            "details": DETAILS,
            "expires_at": "2318-01-01T00:00:00Z",
            "context_length": 2048,
        }
    ]
}
SHOW = {
    "details": DETAILS,
    "modelfile": "# Modelfile\nFROM /blobs/sha256-1\n",
    "parameters": 'stop                           "<|im_end|>"',
    "template": "{{ .Prompt }}",
    "system": "Be kind.\n\nBe brief.\nBe true.",
    "license": "Apache License\nVersion 2.0",
    "capabilities": ["completion", "tools"],
    "model_info": {
        "general.architecture": "llama",
        "llama.context_length": 8192,
        "llama.embedding_length": 576,
        "tokenizer.ggml.tokens": ["<pad>", "a", "b", "c"],
    },
    "tensors": [{"name": "token_embd.weight", "type": "Q4_1", "shape": [576, 49152]}],
    "modified_at": "2025-07-30T10:00:00Z",
}


@dataclass
class StandIn:
    """What the stand-in was asked, and what it does."""

    token: str | None = None
    url: str = ""
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    left: threading.Event = field(default_factory=threading.Event)
    """Set when a client has gone in the middle of an answer."""
    replies: dict[str, bytes] = field(default_factory=dict)
    """Bodies to send instead of the canned ones, by path."""

    def last(self, path: str) -> Any:
        """The body of the latest request for ``path``."""
        return next(body for _, asked, body in reversed(self.asked) if asked == path)

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(ready),))
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        routes = [
            (r"(?:/base)?/", Liveness),
            (r"(?:/base)?/api/blobs/(.*)", Blobs),
            (r"(?:/base)?(/api/.*)", Api),
        ]
        server = HTTPServer(Application(routes, standin=self, log_function=lambda _: None), max_buffer_size=1 << 30)
        sockets = bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        self.url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
        ready.set()
        await self._ended.wait()
        server.stop()
        await server.close_all_connections()


class Base(RequestHandler):
    gone = False

    @property
    def standin(self) -> StandIn:
        return self.settings["standin"]

    def prepare(self) -> None:
        if self.standin.token and self.request.headers.get("Authorization") != f"Bearer {self.standin.token}":
            self.set_status(403)
            self.finish({"message": "Forbidden", "reason": None})

    def on_connection_close(self) -> None:
        self.gone = True

    def fail(self, status: int, text: str, **more: str) -> None:
        self.set_status(status)
        self.finish({"error": text, **more})


class Liveness(Base):
    def get(self) -> None:
        self.finish("Ollama is running")


class Blobs(Base):
    def head(self, digest: str) -> None:
        if not digest.startswith("sha256:"):
            self.set_status(400)
        elif digest not in self.standin.blobs:
            self.set_status(404)

    def post(self, digest: str) -> None:
        actual = f"sha256:{hashlib.sha256(self.request.body).hexdigest()}"
        if actual != digest:
            self.fail(400, f'digest mismatch, expected "{digest}", got "{actual}"')
            return
        self.standin.blobs[digest] = self.request.body
        self.set_status(201)


class Api(Base):
    async def get(self, path: str) -> None:
        self.standin.asked.append(("GET", path, None))
        canned = {"/api/version": {"version": "0.10.0"}, "/api/tags": TAGS, "/api/ps": PS}
        self.finish(self.standin.replies.get(path) or canned[path])

    async def delete(self, path: str) -> None:
        await self.post(path)

    async def post(self, path: str) -> None:
        body = json.loads(self.request.body)
        self.standin.asked.append((self.request.method or "", path, body))
        model = body.get("model", body.get("source"))
        if path in self.standin.replies:
            self.finish(self.standin.replies[path])
        elif model == "missing":
            self.fail(404, "model 'missing' not found", hint="Create it first.")
        elif path == "/api/show":
            self.finish(SHOW)
        elif path == "/api/create":
            await self.lines({"status": "parsing GGUF"}, {"status": "writing manifest"}, {"status": "success"})
        elif path in ("/api/pull", "/api/push"):
            await self.transfer("pulling" if path == "/api/pull" else "pushing", model)
        elif path == "/api/chat" or body.get("prompt"):
            await self.answer(path, model)

    async def transfer(self, doing: str, model: str) -> None:
        """Two blobs at once, the first of which was there in part."""

        def blob(digit: str, completed: int, total: int) -> dict[str, Any]:
            step = {"status": f"{doing} {digit * 12}", "digest": f"sha256:{digit * 64}", "total": total}
            return {**step, "completed": completed} if completed else step  # Go leaves zeros out

        await self.lines({"status": f"{doing} manifest"}, blob("a", 40_000_000, 90_000_000), blob("b", 0, 8_000_000))
        if model == "denied/m":
            await self.lines({"error": "unauthorized: access denied", "status": 403, "hint": "Add your key there."})
        elif model == "fails":
            await self.lines({"error": "max retries exceeded: no route to host", "hint": "Try again later."})
        elif model == "breaks":
            self.detach().close()
        elif model == "endless":
            while not self.gone:
                await self.lines(blob("b", 1_000_000, 8_000_000))
                await asyncio.sleep(0.01)
            self.standin.left.set()
        else:
            await self.lines(blob("b", 8_000_000, 8_000_000), blob("a", 90_000_000, 90_000_000))
            await self.lines({"status": "writing manifest"}, {"status": "success"})

    async def answer(self, path: str, model: str) -> None:
        def piece(text: str, **more: Any) -> dict[str, Any]:
            said = {"message": {"role": "assistant", "content": text}} if path == "/api/chat" else {"response": text}
            return {"model": model, "created_at": "2025-07-30T10:00:00Z", "done": False, **said, **more}

        if model == "silent":
            while not self.gone:  # noqa: ASYNC110 - what is waited for comes by a callback of Tornado's
                await asyncio.sleep(0.01)
            self.standin.left.set()
        elif model == "fails":
            await self.lines(piece("So"), {"error": "llama runner process has terminated", "hint": "Try again."})
        elif model == "breaks":
            await self.lines(piece("So far"))
            self.detach().close()
        elif model == "endless":
            while not self.gone:
                await self.lines(piece("on and "))
                await asyncio.sleep(0.01)
            self.standin.left.set()
        elif model == "caller":
            call = {"function": {"name": "weather", "arguments": {"city": "Köln"}}}
            thought = {"role": "assistant", "content": "", "thinking": "Which city?"}
            called = {"role": "assistant", "content": "", "tool_calls": [call]}
            await self.lines(piece("", message=thought), piece("", message=called), self.final(piece("")))
        elif model == "forgetful":
            dropped = {"prompt_dropped_messages": 12, "prompt_dropped_count": 340}
            await self.lines(piece("What?"), self.final(piece(""), **dropped))
        else:
            words = ["**Why", " not**", " - ", "été"]
            await self.lines(*map(piece, words), self.final(piece(""), context=[1, 2, 3]))

    @staticmethod
    def final(last: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {**last, "done": True, "done_reason": "stop", **TIMES, **more}

    async def lines(self, *values: dict[str, Any]) -> None:
        self.set_header("Content-Type", "application/x-ndjson")
        for value in values:
            self.write(json.dumps(value, ensure_ascii=False) + "\n")
            try:
                await self.flush()
            except StreamClosedError:
                self.gone = True
                return
