"""How fast and how thrifty a download is: ours from a real registry against ``curl`` and ``sha256sum``, turn by turn.

``python tests/benchmarks/pull.py [--rounds 9] [--size MB]`` downloads one blob (SmolLM2's 98 MB unless told) from
Debian's docker-registry on loopback: ours with the hash, the flush to the disk and the rename, curl with ``-o`` and
``sha256sum`` after it. Exit code 1 if the median of the rounds' ratios is under 0.8.

``--bad-line [--seeds 3]`` downloads it through a proxy that cuts connections, keeps them waiting and slows them to
1 kB/s, and tells how many bytes it took. Exit code 1 if it was more than 1.1 times the blob.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx2
from report import Figure, processor_name

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bad_line import BadLine, Weather
from docker_registry import DockerRegistry, docker_registry
from range_server import source_at
from samples import default_cache, smollm2_gguf

from ollama_nb.registry.sharing import Downloads
from ollama_nb.registry.source import Patience
from ollama_nb.store.blobs import BlobStore

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST_RATIO: Final = 0.8
MOST_BYTES: Final = 1.1
REPOSITORY: Final = "library/x"
MEBIBYTE: Final = 1 << 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--size", type=int, default=0, help="of a blob of random bytes, in MB")
    parser.add_argument("--bad-line", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args(arguments)
    data = os.urandom(1_000_000 * chosen.size) if chosen.size else smollm2_gguf(default_cache()).read_bytes()
    with tempfile.TemporaryDirectory(prefix="ollama_nb-bench-") as name:
        folder = Path(name)
        with docker_registry(folder / "registry") as registry:
            digest = put_blob(registry, data)
            if chosen.bad_line:
                return asyncio.run(bad_lines(registry, folder, digest, len(data), chosen.seeds))
            return good_line(registry, folder, digest, len(data), chosen.rounds)


def good_line(registry: DockerRegistry, folder: Path, digest: str, size: int, rounds: int) -> int:
    """Ours and curl's in turns."""
    figure = Figure(f"{size / 1e6:.0f} MB from docker-registry", "MB/s", more_is_better=True, judged=True)
    sides = (
        (figure.ours, lambda: ours(registry, folder, digest, size)),
        (figure.peer, lambda: curl(registry, folder, digest)),
    )
    for _, run in sides:
        run()
    for number in range(rounds):
        for speeds, run in sides[:: 1 if number % 2 else -1]:
            speeds.append(size / 1e6 / run())
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    print(f"{processor_name()}, {os.cpu_count()} cores; load now: {load}; {rounds} rounds")
    medians = [sorted(side)[len(side) // 2] for side in (figure.ours, figure.peer)]
    print(f"{figure.title}, {figure.unit}: ours {medians[0]:.1f}, curl and sha256sum {medians[1]:.1f}", end=", ")
    print(f"ratio {figure.ratio:.2f} ({min(figure.ratios):.2f} to {max(figure.ratios):.2f})")
    return 0 if figure.ratio >= LEAST_RATIO else 1


def ours(registry: DockerRegistry, folder: Path, digest: str, size: int) -> float:
    """Seconds until the blob is verified and in its place."""
    blobs = BlobStore(folder / "ours")
    blobs.remove(digest)

    async def bring() -> float:
        port = int(registry.host.rpartition(":")[2])
        async with source_at(port, digest, Patience(), folder) as source:
            began = time.perf_counter()
            async with Downloads(blobs).join(source, digest, size) as download:
                await download.wait()
            return time.perf_counter() - began

    return asyncio.run(bring())


def curl(registry: DockerRegistry, folder: Path, digest: str) -> float:
    """Seconds until the blob is in a file, and read again for its hash."""
    target = folder / "curl"
    target.unlink(missing_ok=True)
    url = f"{registry.url}/v2/{REPOSITORY}/blobs/{digest}"
    began = time.perf_counter()
    subprocess.run(["curl", "-sS", "--noproxy", "*", "-o", target, url], check=True)
    found = subprocess.run(["sha256sum", target], check=True, capture_output=True).stdout
    elapsed = time.perf_counter() - began
    if found[:64].decode() != digest.removeprefix("sha256:"):
        raise RuntimeError("curl has brought something else")
    return elapsed


async def bad_lines(registry: DockerRegistry, folder: Path, digest: str, size: int, seeds: int) -> int:
    """Downloads over lines that are bad in different ways; the worst share decides."""
    worst = 0.0
    for seed in range(seeds):
        blobs = BlobStore(folder / f"seed{seed}")
        port = int(registry.host.rpartition(":")[2])
        async with contextlib.AsyncExitStack() as stack:
            line = await stack.enter_async_context(BadLine(port, Weather(), seed))
            source = await stack.enter_async_context(source_at(line.port, digest, Patience(), folder))
            began = time.perf_counter()
            download = await stack.enter_async_context(Downloads(blobs).join(source, digest, size))
            while not await download.wait(1.0):
                sys.stderr.write(f"\rseed {seed}: {download.completed / size:.0%}")
                sys.stderr.flush()
            elapsed = time.perf_counter() - began
        share = line.forwarded / size
        worst = max(worst, share)
        print(f"\rseed {seed}: {elapsed:.0f} s, {line.summary()}, {share:.4f} times the blob's bytes")
    return 0 if worst <= MOST_BYTES else 1


def put_blob(registry: DockerRegistry, data: bytes) -> str:
    """Puts a blob there, in one request; its digest."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    with httpx2.Client(base_url=registry.url, trust_env=False, timeout=60) as client:
        begun = client.post(f"/v2/{REPOSITORY}/blobs/uploads/").raise_for_status()
        url = httpx2.URL(begun.headers["Location"]).copy_merge_params({"digest": digest})
        client.put(url, content=data).raise_for_status()
    return digest


if __name__ == "__main__":
    sys.exit(main())
