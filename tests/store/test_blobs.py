"""Blobs: content under its hash, whole or not at all."""

import errno
import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.store import blobs as module
from ollama_nb.store.blobs import BlobStore, FileKind, file_kind
from ollama_nb.wire.errors import BadRequestError, NotFoundError, OllamaError

DATA = b"some weights"
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
OTHER = f"sha256:{hashlib.sha256(b'other').hexdigest()}"
NO_DIGESTS = ["", "sha256:", "../../etc/passwd", "sha256:../../../../etc/passwd", "sha256-" + "../" * 21 + "x"]


@pytest.fixture
def blobs(root):
    return BlobStore(root)


def files(blobs):
    return sorted(path.name for path in blobs.directory.iterdir())


def write(blobs, expected):
    with blobs.writer() as blob:
        blob.write(DATA)
        return blob.commit(expected)


def test_a_stored_blob_lies_under_its_hash(blobs):
    assert blobs.put(DATA) == (DIGEST, len(DATA), False)
    assert files(blobs) == [DIGEST.replace(":", "-")]
    assert blobs.exists(DIGEST)
    assert blobs.size(DIGEST) == len(DATA)
    assert blobs.read(DIGEST) == DATA


def test_storing_twice_says_that_it_was_there(blobs):
    blobs.put(DATA)
    assert blobs.put(DATA) == (DIGEST, len(DATA), True)
    assert len(files(blobs)) == 1


def test_a_blob_cut_short_by_an_old_crash_is_replaced(blobs):
    blobs.put(DATA)
    blobs.path(DIGEST).write_bytes(DATA[:3])
    assert blobs.put(DATA) == (DIGEST, len(DATA), False)
    assert blobs.read(DIGEST) == DATA


def test_every_accepted_spelling_of_a_digest_is_one_blob(blobs):
    blobs.put(DATA)
    for spelling in (DIGEST, DIGEST.replace(":", "-"), "sha256:" + DIGEST[7:].upper()):
        assert blobs.path(spelling) == blobs.directory / DIGEST.replace(":", "-")
        assert blobs.exists(spelling)


@pytest.mark.parametrize("text", NO_DIGESTS)
@pytest.mark.parametrize("method", ["path", "exists", "refresh", "size", "read", "remove"])
def test_no_method_takes_what_is_no_digest(blobs, method, text):
    with pytest.raises(BadRequestError, match=r"^invalid digest format$"):
        getattr(blobs, method)(text)


@given(st.lists(st.binary()))
def test_the_hash_does_not_depend_on_how_the_content_is_cut(tmp_path_factory, pieces):
    blobs = BlobStore(tmp_path_factory.mktemp("cut"))
    with blobs.writer() as blob:
        for piece in pieces:
            blob.write(piece)
        digest = blob.commit()
    whole = b"".join(pieces)
    assert digest == f"sha256:{hashlib.sha256(whole).hexdigest()}"
    assert blobs.read(digest) == whole


def test_an_abandoned_blob_leaves_nothing(blobs):
    with blobs.writer() as blob:
        blob.write(DATA)
        assert file_kind(files(blobs)[0]) is FileKind.TEMPORARY
    assert files(blobs) == []


def test_a_writer_that_fails_leaves_nothing(blobs):
    def client_goes_away() -> None:
        with blobs.writer() as blob:
            blob.write(DATA)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        client_goes_away()
    assert files(blobs) == []


def test_other_content_than_announced_is_refused_and_leaves_nothing(blobs):
    with pytest.raises(BadRequestError) as caught:
        write(blobs, OTHER)
    assert caught.value.message == f'digest mismatch, expected "{OTHER}", got "{DIGEST}"'
    assert files(blobs) == []


@pytest.mark.parametrize("text", NO_DIGESTS)
def test_an_announced_digest_that_is_none_is_refused_and_leaves_nothing(blobs, text):
    with pytest.raises(BadRequestError, match=r"^invalid digest format$"):
        write(blobs, text)
    assert files(blobs) == []


@pytest.mark.parametrize("expected", [DIGEST, DIGEST.replace(":", "-"), "sha256:" + DIGEST[7:].upper(), None])
def test_content_as_announced_in_any_spelling_is_committed(blobs, expected):
    assert write(blobs, expected) == DIGEST
    assert files(blobs) == [DIGEST.replace(":", "-")]


def test_a_full_disk_leaves_nothing(blobs, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left"):
        blobs.put(DATA)
    assert files(blobs) == []


def test_what_is_given_up_on_a_full_disk_is_no_second_error(blobs):
    """The limit on the size of files stands for the size of the disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with blobs.writer() as blob:
            blob.write(DATA)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
            with pytest.raises(OSError, match=r"too large"):
                blob.commit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files(blobs) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_blob_that_cannot_be_touched_is_there_all_the_same(blobs, monkeypatch, number):
    write(blobs, DIGEST)

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module.os, "utime", refuse)
    assert blobs.refresh(DIGEST)
    assert not blobs.refresh(OTHER)


def test_a_missing_blob_is_named_as_ollama_names_it(blobs):
    for method in (blobs.size, blobs.read):
        with pytest.raises(NotFoundError) as caught:
            method(DIGEST)
        assert caught.value.message == f'blob "{DIGEST}" not found'
    assert not blobs.exists(DIGEST)
    assert not blobs.refresh(DIGEST)
    assert not blobs.remove(DIGEST)


def test_a_text_past_the_limit_is_not_read_into_memory(blobs):
    blobs.put(DATA)
    assert blobs.read(DIGEST, limit=len(DATA)) == DATA
    with pytest.raises(OllamaError, match=r"larger than 3 bytes"):
        blobs.read(DIGEST, limit=3)


def test_a_blob_that_cannot_be_made_says_what_to_check(tmp_path):
    (tmp_path / "blobs").write_text("in the way")
    with pytest.raises(OllamaError, match=r": ensure path elements are traversable$"):
        BlobStore(tmp_path).put(DATA)


def test_blobs_of_old_versions_get_todays_name(blobs):
    blobs.directory.mkdir(parents=True)
    (blobs.directory / DIGEST).write_bytes(DATA)
    (blobs.directory / "sha256:short").write_bytes(b"")
    blobs.rename_old_names()
    assert files(blobs) == [DIGEST.replace(":", "-"), "sha256:short"]
    assert blobs.read(DIGEST) == DATA


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (DIGEST.replace(":", "-"), FileKind.BLOB),
        (DIGEST.replace(":", "-") + "-partial", FileKind.PARTIAL),
        (DIGEST.replace(":", "-") + "-partial-12", FileKind.PARTIAL),
        ("sha256-0123456789abcdef", FileKind.TEMPORARY),
        ("sha256-1234-partial", FileKind.TEMPORARY),
        ("sha256-", FileKind.TEMPORARY),
        ("README", FileKind.FOREIGN),
        (".DS_Store", FileKind.FOREIGN),
        (DIGEST, FileKind.FOREIGN),
    ],
)
def test_files_are_told_apart_by_name(name, kind):
    assert file_kind(name) is kind


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize(
    ("name", "goes_when_old"),
    [
        (DIGEST.replace(":", "-"), False),
        (OTHER.replace(":", "-"), True),
        (OTHER.replace(":", "-") + "-partial", False),
        (OTHER.replace(":", "-") + "-partial-0", False),
        ("sha256-0123456789abcdef", True),
        ("notes.txt", False),
    ],
)
def test_the_sweep_takes_old_files_that_nobody_needs(blobs, age, name, goes_when_old, old):
    blobs.directory.mkdir(parents=True)
    path = blobs.directory / name
    path.write_bytes(DATA)
    if old:
        age(path)
    gone = old and goes_when_old
    assert blobs.sweep({DIGEST}) == ([name] if gone else [])
    assert path.exists() is not gone


@pytest.mark.parametrize("name", ["-partial", "-partial-0", "-partial.lock"])
@pytest.mark.parametrize(("days", "goes"), [(6, False), (8, True)])
def test_a_download_that_nobody_went_on_with_for_a_week_is_given_up(blobs, age, name, days, goes):
    blobs.directory.mkdir(parents=True)
    path = blobs.directory / (OTHER.replace(":", "-") + name)
    path.write_bytes(DATA)
    age(path, days * 24 * 3600)
    assert blobs.sweep({DIGEST, OTHER}) == ([path.name] if goes else [])


def test_a_blob_that_is_asked_for_again_is_as_good_as_new(blobs, age):
    blobs.put(DATA)
    age(blobs.path(DIGEST))
    assert blobs.refresh(DIGEST)
    assert blobs.sweep(frozenset()) == []


def test_folders_among_the_blobs_are_left_alone(blobs, age):
    folder = blobs.directory / "sha256-folder"
    folder.mkdir(parents=True)
    age(folder)
    assert blobs.sweep(frozenset()) == []
    assert folder.is_dir()
