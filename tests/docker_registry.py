"""A real registry on a loopback port: Debian's ``docker-registry``, which knows nothing of models.

It keeps its files in a folder of the test, takes the port the system gives, and ends with the ``with`` block. Who may
do what there is decided in ``registry_front``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import httpx2
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNPACKED: Final = Path(sys.prefix) / "registry" / "usr" / "bin"
"""Where `make system` puts it."""
_PLACES: Final = os.pathsep.join((os.environ.get("PATH", os.defpath), str(_UNPACKED), "/usr/sbin", "/usr/bin"))
_MISSING: Final = "no docker-registry on this machine; as root on Debian and Ubuntu `make system` fetches it"
_LISTENING: Final = "listening on "
_PATIENCE: Final = 60.0
_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"


def docker_registry_program() -> str:
    """The program. Without it these tests are skipped, but never where they are to decide what lands."""
    if path := shutil.which("docker-registry", path=_PLACES):
        return path
    if os.environ.get("CI") == "true":
        pytest.fail(_MISSING)
    pytest.skip(_MISSING)


@dataclass(frozen=True)
class DockerRegistry:
    """A registry that runs: its address, ``127.0.0.1:port``, and the folder in which its files lie."""

    host: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def blobs(self) -> dict[str, int]:
        """The sizes of all blobs that it has, manifests among them, by their digests."""
        files = self.folder.glob("docker/registry/v2/blobs/sha256/*/*/data")
        return {f"sha256:{path.parent.name}": path.stat().st_size for path in files}

    def uploads(self) -> list[str]:
        """The sessions of uploads that were begun and neither committed nor cancelled."""
        return [path.name for path in self.folder.glob("docker/registry/v2/repositories/**/_uploads/*")]

    def manifest(self, repository: str, tag: str) -> bytes:
        """The bytes of a manifest, fetched by a client that is none of ours."""
        answer = httpx2.get(
            f"{self.url}/v2/{repository}/manifests/{tag}", headers={"Accept": _MANIFEST}, trust_env=False
        )
        answer.raise_for_status()
        return answer.content

    def put_manifest(self, repository: str, tag: str, data: bytes) -> None:
        """Have a tag mean these bytes, put there by a client that is none of ours."""
        url = f"{self.url}/v2/{repository}/manifests/{tag}"
        headers = {"Content-Type": _MANIFEST}
        httpx2.put(url, content=data, headers=headers, trust_env=False).raise_for_status()

    def kill(self) -> None:
        """It dies, as machines do."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def docker_registry(
    folder: Path, *, port: int = 0, read_only: bool = False, relative: bool = False
) -> Iterator[DockerRegistry]:
    """Runs one whose files lie in ``folder``; ``relative`` makes it name the next address without its host."""
    program = docker_registry_program()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.json"  # YAML, as all JSON is
    config.write_text(json.dumps(_configuration(folder, port, read_only=read_only, relative=relative)))
    with (folder / "log").open("w+b") as log:
        process = subprocess.Popen([program, "serve", str(config)], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            yield DockerRegistry(_address(process, log), folder, process)
        finally:
            process.terminate()
            process.wait()


def _configuration(folder: Path, port: int, *, read_only: bool, relative: bool) -> dict[str, object]:
    maintenance = {"readonly": {"enabled": read_only}, "uploadpurging": {"enabled": False}}
    return {
        "version": 0.1,
        "log": {"level": "info", "formatter": "json"},
        "storage": {
            "filesystem": {"rootdirectory": str(folder)},
            "delete": {"enabled": True},
            "maintenance": maintenance,
        },
        "http": {"addr": f"127.0.0.1:{port}", "secret": "of this test", "relativeurls": relative},
    }


def _address(process: subprocess.Popen[bytes], log: IO[bytes]) -> str:
    """Where it says that it listens."""
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        log.seek(0)
        for line in log.read().decode().splitlines(keepends=True):
            if _LISTENING in line and line.endswith("\n"):
                return str(json.loads(line)["msg"]).partition(_LISTENING)[2]
        time.sleep(0.02)
    log.seek(0)
    raise AssertionError(f"docker-registry did not start: {log.read().decode()}")
