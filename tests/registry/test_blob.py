"""A blob of a registry, in ranges: which answers are believed, and when patience is at its end."""

from __future__ import annotations

import threading

import pytest
from hostile_registry import Answer, crawling, endless, silent
from one_repository import BLOB, CONTENT, DIGEST, SIZE, reading

from ollama_nb.registry.sharing import Downloads
from ollama_nb.registry.source import LineError, Patience
from ollama_nb.store.blobs import BlobStore
from ollama_nb.wire.errors import RegistryError


class TestBlob:
    @pytest.mark.parametrize(("start", "stop"), [(0, 2048), (0, 1), (5, 7), (2047, 2048), (1000, 2048)])
    def test_a_range_is_asked_for_and_given(self, registry, talk, start, stop):
        assert talk(reading(start, stop)) == (start, CONTENT[start:stop])
        assert registry.asked[0].headers["range"] == f"bytes={start}-{stop - 1}"

    def test_who_knows_no_ranges_gives_everything(self, registry, talk):
        registry.answers[BLOB] = Answer(body=CONTENT)
        assert talk(reading(1000, 1010)) == (0, CONTENT)

    def test_everything_may_come_without_a_stated_length(self, registry, talk):
        registry.answers[BLOB] = Answer(body=[CONTENT], length=None)
        assert talk(reading()) == (0, CONTENT)

    def test_a_blob_of_nothing_is_asked_for_without_a_range(self, registry, talk):
        registry.answers[BLOB] = Answer(body=b"")
        assert talk(reading(0, 0, 0)) == (0, b"")
        assert "range" not in registry.asked[0].headers

    def test_a_part_whose_whole_size_is_not_known_is_taken(self, registry, talk):
        answer = Answer(206, CONTENT[5:7], {"Content-Range": "bytes 5-6/*"})
        registry.answers[BLOB] = answer
        assert talk(reading(5, 7)) == (5, CONTENT[5:7])

    def test_less_than_was_asked_for_is_taken_as_what_it_is(self, registry, talk):
        answer = Answer(206, CONTENT[5:7], {"Content-Range": "bytes 5-6/2048"})
        registry.answers[BLOB] = answer
        assert talk(reading(5, 2000)) == (5, CONTENT[5:7])

    @pytest.mark.parametrize(
        ("answer", "text"),
        [
            (Answer(body=b"x" * 2047), "the registry states 2047 bytes, the manifest 2048"),
            (Answer(body=b"x" * 2049), "the registry states 2049 bytes, the manifest 2048"),
            (Answer(206, b"xx", {"Content-Range": "bytes 5-6/99"}), "the registry states 99 bytes, the manifest 2048"),
            (
                Answer(206, b"xx", {"Content-Range": "bytes 6-7/2048"}),
                "bytes 5-6 were asked for, the registry sends 6-7",
            ),
            (Answer(206, b"xxx", {"Content-Range": "bytes 5-7/2048"}), "asked for, the registry sends 5-7"),
            (Answer(206, b"", {"Content-Range": "bytes 5-4/2048"}), "asked for, the registry sends 5-4"),
            (Answer(206, b"xx"), "sends a part and does not say which: nothing"),
            (Answer(206, b"xx", {"Content-Range": "lines 5-6/2048"}), "does not say which: lines 5-6/2048"),
            (Answer(206, b"xx", {"Content-Type": "multipart/byteranges; boundary=x"}), "does not say which"),
            (Answer(416, headers={"Content-Range": "bytes */3"}), "has no bytes from 5 on, the manifest states 2048"),
            (Answer(206, b"xxx", {"Content-Range": "bytes 5-6/2048"}), "sends more bytes than it has stated"),
        ],
    )
    def test_another_range_or_size_is_refused(self, registry, talk, answer, text):
        registry.answers[BLOB] = answer
        with pytest.raises(RegistryError) as raised:
            talk(reading(5, 7))
        assert text in raised.value.message

    @pytest.mark.parametrize(
        "answer",
        [
            Answer(body=b"x" * 100, length=2048),
            Answer(body=[b"x" * 100], length=None),
            Answer(206, b"x" * 100, {"Content-Range": "bytes 0-2047/2048"}),
        ],
        ids=["stated", "not stated", "a part"],
    )
    def test_a_body_that_ends_early_is_a_line_error(self, registry, talk, answer):
        registry.answers[BLOB] = answer
        with pytest.raises(LineError):
            talk(reading())

    def test_a_body_without_an_end_is_cut(self, registry, talk):
        registry.answers[BLOB] = lambda _asked: Answer(body=endless(b"xyz"), length=None)
        with pytest.raises(RegistryError, match="sends more bytes than it has stated"):
            talk(reading())

    def test_a_body_that_is_complete_is_not_waited_for_any_longer(self, registry, talk):
        over = threading.Event()
        registry.answers[BLOB] = Answer(body=silent(over, CONTENT), length=None)
        assert talk(reading()) == (0, CONTENT)
        over.set()

    def test_one_that_is_not_there_is_said_to_be_missing(self, registry, talk):
        del registry.answers[BLOB]
        with pytest.raises(RegistryError, match="file does not exist") as raised:
            talk(reading())
        assert raised.value.status == 404

    def test_whether_it_is_there_is_asked_with_head(self, registry, talk):
        assert talk(lambda registry: registry.has_blob(DIGEST))
        assert not talk(lambda registry: registry.has_blob(f"sha256:{'0' * 64}"))
        assert [asked.method for asked in registry.asked] == ["HEAD", "HEAD"]


class TestPatience:
    """The download that reads a blob has the patience; the registry's blob is read through the real client."""

    PATIENCE = Patience(connect=5, stall=0.4, tries=2, first_wait=0.01, longest_wait=0.05)

    def download(self, talk, folder, patience=PATIENCE):
        blobs = BlobStore(folder / "models")

        async def work(registry):
            downloads = Downloads(blobs, streams=2, patience=patience)
            try:
                async with downloads.join(registry.blob(DIGEST), DIGEST, SIZE) as download:
                    await download.wait()
            finally:
                await downloads.close()

        try:
            talk(work)
        finally:
            assert not blobs.exists(DIGEST)

    def test_a_body_that_crawls_is_given_up(self, registry, talk, tmp_path):
        over = threading.Event()
        registry.answers[BLOB] = lambda _asked: Answer(body=crawling(over), length=SIZE)
        with pytest.raises(RegistryError, match="max retries exceeded"):
            self.download(talk, tmp_path)
        over.set()
        assert len(registry.asked) > 1

    def test_a_body_that_always_ends_early_is_given_up(self, registry, talk, tmp_path):
        registry.answers[BLOB] = Answer(body=b"x" * 5, length=SIZE)
        with pytest.raises(RegistryError, match="max retries exceeded"):
            self.download(talk, tmp_path)
        assert len(registry.asked) > 1
