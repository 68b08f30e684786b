"""Texts to vectors: our server and llama.cpp's own, turn by turn, with the same file, threads and texts.

``python tests/benchmarks/embed.py [--texts 1000] [--rounds 7]``. A turn is one request with all texts, from its first
byte to the last one of the answer. The model is all-minilm in F16, made by our own conversion. llama.cpp's server
gets as many slots as our engine has sequences, and batches of a size at which it is at its best here. Both must give
the same vectors. Exit code 1 if the median of the rounds' ratios is under 1.0.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import sys
import tempfile
import time
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from accounting import Account
from contender import Contender, Settings
from ours import MODEL, Ours
from peer import Peer
from report import Figure, processor_name

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from samples import ALL_MINILM_TOKENS, all_minilm, default_cache

from ollama_nb.convert.model import convert_model

if TYPE_CHECKING:
    from collections.abc import Sequence

WORDS: Final = 60
LEAST_COSINE: Final = 0.9999
PAGE: Final = Path(__file__).with_name("page.txt")


class OurVectors(Ours):
    """``/api/embed``."""

    def warm_up(self) -> None:
        """Load the model."""
        self.embed(["x"])

    def embed(self, texts: Sequence[str]) -> tuple[float, bytes]:
        """Seconds, and the answer's body."""
        options = {"num_ctx": self.settings.num_ctx, "num_thread": self.settings.threads}
        return ask(self, "/api/embed", {"model": MODEL, "input": texts, "options": options})

    @staticmethod
    def vectors(body: bytes) -> np.ndarray:
        """The vectors, one a row."""
        return np.array(json.loads(body)["embeddings"])


class PeerVectors(Peer):
    """``/v1/embeddings``, which is what the peer has for many texts."""

    arguments = ("--embedding",)

    def embed(self, texts: Sequence[str]) -> tuple[float, bytes]:
        """Seconds, and the answer's body."""
        return ask(self, "/v1/embeddings", {"input": texts})

    @staticmethod
    def vectors(body: bytes) -> np.ndarray:
        """The vectors, one a row."""
        return np.array([item["embedding"] for item in json.loads(body)["data"]])


def ask(side: Contender, path: str, body: Any) -> tuple[float, bytes]:
    """Seconds from the first byte of a request to the last one of its answer, and the answer's body."""
    data = json.dumps(body).encode()
    began = time.perf_counter()
    connection = http.client.HTTPConnection(*side.address)
    connection.request("POST", path, body=data, headers={"Content-Type": "application/json"})
    reply = connection.getresponse()
    text = reply.read()
    elapsed = time.perf_counter() - began
    connection.close()
    if reply.status != HTTPStatus.OK:
        raise RuntimeError(f"{side.name} {path}: {reply.status} {text[:500].decode()}")
    return elapsed, text


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of both sides")
    parser.add_argument("--peer-slots", type=int, default=32)
    parser.add_argument("--peer-batch", type=int, default=512, help="rows that the peer computes at once, at most")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="ollama_nb-bench-") as name:
        folder = Path(name)
        source = all_minilm(default_cache())
        files = {path.relative_to(source).as_posix(): path for path in source.rglob("*") if path.is_file()}
        model = folder / "all-minilm.gguf"
        convert_model(files, model, "F16", lambda _done, _total: None)
        settings = Settings(
            model, chosen.threads, streams=chosen.peer_slots, num_ctx=ALL_MINILM_TOKENS, num_batch=chosen.peer_batch
        )
        figure, account = measure(settings, folder, texts(chosen.texts), chosen.rounds)
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    print(f"{processor_name()}, {chosen.threads} threads; load now: {load}; {chosen.rounds} rounds")
    medians = [sorted(side)[len(side) // 2] for side in (figure.ours, figure.peer)]
    print(f"{figure.title}, {figure.unit}: ours {medians[0]:.1f}, peer {medians[1]:.1f}", end=", ")
    print(f"ratio {figure.ratio:.2f} ({min(figure.ratios):.2f} to {max(figure.ratios):.2f})")
    for side in account.contenders:
        seconds = sum(used for (name, _), used in account.working.items() if name == side.name)
        print(f"  {side.name}: {1000 * seconds / (chosen.rounds * chosen.texts):.1f} ms of processor time a text")
    strangers = account.strangers / account.elapsed / (os.cpu_count() or 1)
    print(f"  other programs took {strangers:.0%} of all cores; the fewer, the more the figures say")
    return 0 if figure.ratio >= 1 else 1


def measure(settings: Settings, folder: Path, texts: Sequence[str], rounds: int) -> tuple[Figure, Account]:
    """Texts a second of both, round by round, and who used the machine meanwhile."""
    figure = Figure(f"{len(texts)} texts of {WORDS} words", "texts/s", more_is_better=True, judged=True)
    with OurVectors(settings, folder) as ours, PeerVectors(settings, folder) as peer:
        ours_found, peer_found = (side.vectors(side.embed(texts[:100])[1]) for side in (ours, peer))
        least = float((ours_found * peer_found).sum(axis=1).min())
        if least < LEAST_COSINE:
            raise RuntimeError(f"the two give different vectors: a cosine of {least}")
        account = Account((ours, peer))
        for number in range(rounds):
            for side, speeds in ((ours, figure.ours), (peer, figure.peer)):
                with account.turn(side):
                    speeds.append(len(texts) / side.embed(texts)[0])
            sys.stderr.write(f"\rround {number + 1} of {rounds}")
            sys.stderr.flush()
    sys.stderr.write("\n")
    return figure, account


def texts(count: int) -> list[str]:
    """Texts of words by chance out of a page, each another one."""
    words = PAGE.read_text().split()
    chance = random.Random(0)
    return [" ".join(chance.choices(words, k=WORDS)) for _ in range(count)]


if __name__ == "__main__":
    sys.exit(main())
