"""The peer's process: llama.cpp's HTTP server out of the ``xllamacpp`` wheel, until stdin closes.

Prints its address on a line of its own once the model is loaded. It listens and answers in C++ threads; no Python
runs between two tokens.
"""

from __future__ import annotations

import argparse
import sys

import xllamacpp  # type: ignore[import-untyped]

__all__ = ["main"]


def main() -> None:
    """Serve the model named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--num-ctx", type=int, required=True, help="tokens of context for each stream")
    parser.add_argument("--num-batch", type=int, required=True)
    parser.add_argument("--embedding", action="store_true", help="vectors of texts, pooled as the model says")
    arguments = parser.parse_args()

    params = xllamacpp.CommonParams()
    params.model.path = arguments.model
    params.n_parallel = arguments.streams
    # llama.cpp divides this among the streams, which have caches of their own.
    params.n_ctx = arguments.num_ctx * arguments.streams
    params.kv_unified = False
    params.n_batch = params.n_ubatch = arguments.num_batch
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = arguments.threads
    params.embedding = arguments.embedding
    params.fit_params = False
    # The second cache, in which it keeps copies of prompts that have lost their slot: we have none.
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    while sys.stdin.buffer.read(1 << 16):
        pass
    # The destructor ends the threads; without it they would meet the interpreter's end.
    del server


if __name__ == "__main__":
    main()
