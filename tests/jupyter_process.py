"""A real ``jupyter server`` with the extension on, for the tests: random port, token, folders of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from pathlib import Path

TOKEN: Final = "a-token-for-tests"
_DEADLINE: Final = 90.0
_STOP: Final = 20.0


@dataclass
class JupyterProcess:
    """A running server. ``url`` ends without a slash and has the base_url in it; ``runtime`` is its runtime folder."""

    process: subprocess.Popen[bytes]
    runtime: Path
    log: Path
    url: str = ""

    @classmethod
    def start(cls, folder: Path, *arguments: str, **env: str) -> Self:
        """Start in ``folder`` and wait until it answers; ``env`` adds to this process's environment."""
        runtime, log = folder / "runtime", folder / "jupyter.log"
        runtime.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--ServerApp.port=0",
            f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}",
            "--ServerApp.jpserver_extensions={'ollama_nb': True}", *arguments,
        ]  # fmt: skip
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env={**os.environ, "JUPYTER_RUNTIME_DIR": str(runtime), "OLLAMA_HOST": "127.0.0.1:0", **env},
                stdout=output,
                stderr=output,
            )
        server = cls(process, runtime, log)
        try:
            server._wait()
        except BaseException:
            server.stop()
            raise
        return server

    def _wait(self) -> None:
        deadline = time.monotonic() + _DEADLINE
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"jupyter server ended: {self.log.read_text()[-2000:]}")
            info = self.runtime / f"jpserver-{self.process.pid}.json"
            if info.exists() and self.announced():
                self.url = json.loads(info.read_text())["url"].rstrip("/")
                if self.get("/api/status")[0] == 200:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"jupyter server did not answer: {self.log.read_text()[-2000:]}")

    def announced(self) -> str:
        """The address of the stand-alone port, as kernels find it; empty while there is none."""
        path = self.runtime / f"ollama_nb-{self.process.pid}.json"
        return str(json.loads(path.read_text())["url"]) if path.exists() else ""

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of a request below ``url``."""
        request = urllib.request.Request(self.url + path, data=body, method=method, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=120) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def get(self, path: str) -> tuple[int, bytes]:
        """GET with the token."""
        return self.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})

    def post(self, path: str, value: Any) -> tuple[int, bytes]:
        """POST of JSON with the token."""
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        return self.request("POST", path, json.dumps(value).encode(), headers)

    def stop(self) -> None:
        """End it; can be called again."""
        self.process.terminate()
        try:
            self.process.wait(_STOP)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
