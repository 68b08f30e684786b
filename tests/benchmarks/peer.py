"""The other side: llama.cpp's own server in a process of its own.

Model, threads, context, batch, samplers and the reuse of prompts are the same as on ours.
"""

from __future__ import annotations

import json
import os
import selectors
import sys
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

import psutil
from client import Arrivals, ClientError, post
from contender import Answer, Contender

__all__ = ["Peer"]

PROGRAM: Final = Path(__file__).with_name("llama_server.py")
SAMPLERS: Final = ("penalties", "top_k", "typ_p", "top_p", "min_p", "temperature")
"""The samplers that Ollama's options reach, in Ollama's order."""

_PREFIX: Final = b"data: "


class Peer(Contender):
    """One process: HTTP and model together."""

    name = "llama.cpp"
    probe_path = "/health"
    arguments: tuple[str, ...] = ()
    """What its program is told besides."""

    def start(self) -> None:
        """Start the server; it loads the model before it says where it listens."""
        settings = self.settings
        command = [sys.executable, str(PROGRAM), str(settings.model)]
        command += [f"--threads={settings.threads}", f"--streams={settings.streams}"]
        command += [f"--num-ctx={settings.num_ctx}", f"--num-batch={settings.num_batch}", *self.arguments]
        process = self.spawn(command, os.environ)
        if process.stdout is None:
            raise RuntimeError("the peer was started without a pipe")
        output = process.stdout
        with selectors.DefaultSelector() as waiting:
            waiting.register(output, selectors.EVENT_READ)
            url = urlsplit(self.wait_for(lambda: _line(waiting, output)))
        self.address = (url.hostname or "", url.port or 0)

    def parts(self) -> dict[str, psutil.Process]:
        """The one process."""
        if self._process is None:
            raise RuntimeError("the peer has not been started")
        return {"server": psutil.Process(self._process.pid)}

    def request(self, prompt: str, *, seed: int, tokens: int) -> bytes:
        """``/completion``; an end of text is not drawn, so that every answer has its full length."""
        settings = self.settings
        body: dict[str, Any] = {
            "prompt": prompt,
            "n_predict": tokens,
            "seed": seed,
            "stream": True,
            "cache_prompt": True,
            "ignore_eos": True,
            "samplers": SAMPLERS,
            "temperature": settings.temperature,
            "top_k": settings.top_k,
            "top_p": settings.top_p,
            "min_p": settings.min_p,
            "repeat_last_n": settings.repeat_last_n,
            "repeat_penalty": settings.repeat_penalty,
        }
        return post(self.address, "/completion", body)

    def read(self, arrivals: Arrivals) -> Answer:
        """Server-sent events; the last has the counts."""
        lines = [line for line in arrivals.lines() if line.data.startswith(_PREFIX)]
        events = [json.loads(line.data[len(_PREFIX) :]) for line in lines]
        spoken = [line.at for line, event in zip(lines, events, strict=True) if event.get("content")]
        if not spoken or not events[-1].get("stop"):
            raise ClientError(f"not a complete answer: {lines[-1:]!r}")
        return Answer(
            sent_at=arrivals.sent_at,
            texts=spoken,
            prompt_tokens=events[-1]["tokens_evaluated"],
            tokens=events[-1]["tokens_predicted"],
        )


def _line(waiting: selectors.BaseSelector, output: IO[bytes]) -> str | None:
    """A line of the program's output, if it has one by now."""
    return output.readline().decode().strip() or None if waiting.select(0) else None
