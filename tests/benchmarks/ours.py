"""Our side: ``serve`` on a free port with a store of its own, the model made by the ordinary create path."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import psutil
from client import Arrivals, ClientError, post
from contender import Answer, Contender

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Ours"]

MODEL: Final = "bench"
_SERVE: Final = "from ollama_nb.cli.serve import serve_command; serve_command()()"


class Ours(Contender):
    """The server process and the model's process that it starts."""

    name = "ollama_nb"
    probe_path = "/api/version"

    def start(self) -> None:
        """Start the server, upload the model, load it."""
        environ = {key: value for key, value in os.environ.items() if not key.startswith("OLLAMA_")}
        environ |= {
            "OLLAMA_HOST": "127.0.0.1:0",
            "OLLAMA_MODELS": str(self.folder / "models"),
            "OLLAMA_NUM_PARALLEL": str(self.settings.streams),
            "OLLAMA_KEEP_ALIVE": "-1",
            "JUPYTER_RUNTIME_DIR": str(self.folder / "runtime"),
        }
        process = self.spawn([sys.executable, "-c", _SERVE, "--exit-on-stdin-close"], environ)
        announcement = self.folder / "runtime" / f"ollama_nb-{process.pid}.json"
        url = urlsplit(self.wait_for(lambda: _announced(announcement)))
        self.address = (url.hostname or "", url.port or 0)
        self._create()
        self.warm_up()

    def warm_up(self) -> None:
        """Load the model."""
        self._call("/api/generate", {"model": MODEL, "options": self._options(seed=0, tokens=1), "stream": False})

    def parts(self) -> dict[str, psutil.Process]:
        """The server and the process of the loaded model."""
        if self._process is None:
            raise RuntimeError("the server has not been started")
        server = psutil.Process(self._process.pid)
        (child,) = server.children()
        return {"server": server, "model process": child}

    def request(self, prompt: str, *, seed: int, tokens: int) -> bytes:
        """``/api/generate`` with a raw prompt."""
        options = self._options(seed=seed, tokens=tokens)
        return post(self.address, "/api/generate", {"model": MODEL, "prompt": prompt, "raw": True, "options": options})

    def read(self, arrivals: Arrivals) -> Answer:
        """Lines of NDJSON; the last has the counts."""
        lines = arrivals.lines()
        events = [json.loads(line.data) for line in lines]
        spoken = [line.at for line, event in zip(lines, events, strict=True) if event.get("response")]
        if not spoken or not events[-1].get("done"):
            raise ClientError(f"not a complete answer: {lines[-1:]!r}")
        return Answer(
            sent_at=arrivals.sent_at,
            texts=spoken,
            prompt_tokens=events[-1]["prompt_eval_count"],
            tokens=events[-1]["eval_count"],
        )

    def _options(self, *, seed: int, tokens: int) -> dict[str, float]:
        settings = self.settings
        return {
            "num_ctx": settings.num_ctx,
            "num_batch": settings.num_batch,
            "num_thread": settings.threads,
            "num_predict": tokens,
            "seed": seed,
            "temperature": settings.temperature,
            "top_k": settings.top_k,
            "top_p": settings.top_p,
            "min_p": settings.min_p,
            "repeat_last_n": settings.repeat_last_n,
            "repeat_penalty": settings.repeat_penalty,
        }

    def _create(self) -> None:
        with self.settings.model.open("rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
            file.seek(0)
            connection = http.client.HTTPConnection(*self.address)
            length = str(self.settings.model.stat().st_size)
            connection.request("POST", f"/api/blobs/{digest}", body=file, headers={"Content-Length": length})
            reply = connection.getresponse()
            text = reply.read()
            connection.close()
        if reply.status != HTTPStatus.CREATED:
            raise RuntimeError(f"the model's file was refused: {reply.status} {text.decode()}")
        self._call("/api/create", {"model": MODEL, "files": {"model.gguf": digest}, "stream": False})

    def _call(self, path: str, body: object) -> None:
        connection = http.client.HTTPConnection(*self.address)
        connection.request("POST", path, body=json.dumps(body), headers={"Content-Type": "application/json"})
        reply = connection.getresponse()
        text = reply.read()
        connection.close()
        if reply.status != HTTPStatus.OK:
            raise RuntimeError(f"{path}: {reply.status} {text.decode()}")


def _announced(path: Path) -> str | None:
    """The address in the server's runtime file, once that is there; it appears complete."""
    try:
        return str(json.loads(path.read_text())["url"])
    except FileNotFoundError:
        return None
