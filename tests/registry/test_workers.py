"""Requests of one download: whatever the line does, the file is the blob; and who is slow by which numbers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_nb.registry import download, pace, workers
from ollama_nb.registry.download import Transfer
from ollama_nb.registry.pace import Limits, Pace, typical
from ollama_nb.registry.source import Body, LineError, Patience
from ollama_nb.registry.streams import Retries
from ollama_nb.store.blobs import BlobStore
from ollama_nb.wire.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MEBIBYTE: Final = 1 << 20
USUAL: Final = Limits.of(Patience())


@dataclass
class ScriptedSource:
    """Stands for a line whose every piece is chosen: a real one cannot be made to break at a given byte each time.

    Of each answer ``script`` says after how many bytes it ends, in chunks of what size, whether with an error, and
    whether it lets others go first between two chunks.
    """

    data: bytes
    script: list[tuple[int, int, bool, bool]]
    has_ranges: bool = True
    key: str = "line"
    given: list[tuple[int, int]] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def read(self, start: int, stop: int, size: int) -> AsyncIterator[Body]:
        end, piece, fails, yields = self.script.pop() if self.script else (size, size, False, True)
        first, last = (start, stop) if self.has_ranges else (0, size)

        async def chunks() -> AsyncIterator[bytes]:
            position = first
            until = min(last, first + end)
            while position < until:
                chunk = self.data[position : min(until, position + piece)]
                position += len(chunk)
                self.given.append((position - len(chunk), position))
                yield chunk
                await asyncio.sleep(0.001 if yields else 0)
            if position < last and fails:
                raise LineError("reset")

        yield Body(first, chunks())


answers = st.tuples(st.integers(0, 3000), st.integers(200, 2000), st.booleans(), st.booleans())


@settings(max_examples=40)
@given(st.integers(0, 5000), st.integers(100, 2500), st.integers(1, 4), st.lists(answers, max_size=12), st.booleans())
def test_whatever_the_line_does_the_file_is_the_blob(
    size: int, part_size: int, streams: int, script: list[tuple[int, int, bool, bool]], has_ranges: bool
) -> None:
    data = random.Random(size).randbytes(size)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    source = ScriptedSource(data, script, has_ranges)
    patience = Patience(tries=100, first_wait=0, longest_wait=0)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "part_size", lambda _: part_size)
        # Splits at every opportunity: after no time at all, and however little it saves.
        patch.setattr(workers, "LEAST_SPLIT", 1)
        patch.setattr(Limits, "of", lambda _: Limits(tick=0.001, slow=0.005, stall=60, save=0))
        blobs = BlobStore(Path(folder))
        asyncio.run(Transfer(source, blobs, digest, size, streams=streams, patience=patience).run())
        assert blobs.path(digest).read_bytes() == data
        assert [path.name for path in blobs.directory.iterdir()] == [blobs.path(digest).name]


def test_a_source_that_sends_from_elsewhere_is_refused(tmp_path: Path) -> None:
    class Elsewhere(ScriptedSource):
        @contextlib.asynccontextmanager
        async def read(self, start: int, stop: int, size: int) -> AsyncIterator[Body]:
            async with super().read(start, stop, size) as body:
                yield Body(start + 1, body.chunks)

    source = Elsewhere(b"abc", [])
    transfer = Transfer(source, BlobStore(tmp_path), "sha256:" + "0" * 64, 3, streams=2, patience=Patience())
    with pytest.raises(RegistryError, match="line sent bytes from 1 on, not from 0 on"):
        asyncio.run(transfer.run())


def paced(*received: int, tick: float = 0.5, keep: float = 30.0) -> tuple[Pace, float]:
    """A request that had received so much at every tick, and the time now."""
    now = 0.0
    one = Pace(now, keep)
    for count in received:
        now += tick
        one.received = count
        one.sample(now)
    return one, now


def test_a_request_is_judged_by_its_last_seconds() -> None:
    one, now = paced(*[10 * MEBIBYTE] * 20, 11 * MEBIBYTE, 11 * MEBIBYTE)
    assert one.rate(now, 1.0) == MEBIBYTE
    assert one.rate(now, 5.0) == MEBIBYTE / 5
    assert one.rate(now, 60.0) is None
    assert one.mean(now) == MEBIBYTE


@pytest.mark.parametrize(
    ("received", "expected"),
    [([0] * 59, False), ([0] * 61, True), ([1000] * 2 + [2023] * 70, True), ([0] * 30 + [1024] * 31, False)],
    ids=["too early", "nothing", "little", "just enough"],
)
def test_next_to_nothing_for_half_a_minute_is_standing_still(received: list[int], expected: bool) -> None:
    one, now = paced(*received)
    assert one.stands_still(now, USUAL) is expected


def test_the_time_of_our_own_disk_is_no_time_of_the_line() -> None:
    one, now = paced(*[MEBIBYTE] * 4)
    one.pause(now)
    assert not one.stands_still(now + 3600, USUAL)
    one.resume(now + 3600)
    assert one.age(now + 3600) == now
    assert one.mean(now + 3600) == MEBIBYTE / 2


@pytest.mark.parametrize(
    ("rate", "usual", "rest", "expected"),
    [
        (1000, 1e6, MEBIBYTE, True),
        (1000, 9000, MEBIBYTE, False),
        (1000, 1e6, 900, False),
        (0, 1e6, 1, True),
        (0, 0, MEBIBYTE, False),
    ],
    ids=["crawls", "as all do", "is done soon", "stands", "all stand"],
)
def test_slow_is_what_is_ten_times_slower_and_not_done_soon(rate: int, usual: float, rest: int, expected: bool) -> None:
    one, now = paced(*[tick * rate // 2 for tick in range(1, 21)])
    assert one.is_slow(now, USUAL, usual, rest) is expected


def test_a_request_too_young_to_be_judged_is_neither_slow_nor_split() -> None:
    one, now = paced(0)
    assert not one.is_slow(now, USUAL, 1e6, MEBIBYTE)
    assert one.seconds_left(now, USUAL, MEBIBYTE) == 0


def test_time_in_which_nobody_read_is_forgiven() -> None:
    one, now = paced(*[MEBIBYTE] * 4)
    one.forgive(3600)
    assert one.age(now + 3600) == now


def test_what_is_usual_is_the_median() -> None:
    assert typical([1, 2, 300]) == 2
    assert typical([]) == 0


def test_waits_double_up_to_the_longest_until_the_tries_are_used_up() -> None:
    retries = Retries(Patience(tries=5, first_wait=1, longest_wait=4))
    waits = [retries.wait(LineError("down"), 0, 0) for _ in range(4)]
    for wait, expected in zip(waits, [1, 2, 4, 4], strict=True):
        assert expected * 0.75 <= wait <= expected * 1.25
    with pytest.raises(RegistryError, match=r"^max retries exceeded: down$"):
        retries.wait(LineError("down"), 0, 0)


def test_progress_begins_the_count_anew() -> None:
    retries = Retries(Patience(tries=2, first_wait=1, longest_wait=100))
    for number in range(1, 20):
        assert retries.wait(LineError("down"), number * 65536, number * 65536) <= 1.25
    assert retries.wait(LineError("down"), 19 * 65536 + 1, 20 * 65536) > 1.25  # others got something: on, but slower
    with pytest.raises(RegistryError):
        retries.wait(LineError("down"), 20 * 65536, 21 * 65536 - 1)


@pytest.mark.parametrize(("after", "least", "most"), [(0.0, 0.0, 2.0), (17.0, 17.0, 17.0), (1e9, 300.0, 300.0)])
def test_a_server_that_asks_for_time_gets_it_within_reason(after: float, least: float, most: float) -> None:
    wait = Retries(Patience()).wait(LineError("busy", after=after), 0, 0)
    assert least <= wait <= most


def test_slow_requests_are_made_again_without_end_only_while_something_comes() -> None:
    retries = Retries(Patience(tries=3))
    for _ in range(3):
        assert retries.may_hurry(0)
        retries.hurry(0)
    assert not retries.may_hurry(65535)
    assert retries.may_hurry(65536)
    retries.hurry(65536)
    assert retries.may_hurry(65536)


def test_the_least_that_is_split_is_worth_a_request() -> None:
    assert pace.LEAST_SPLIT >= 64 * 1024
