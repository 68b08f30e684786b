from __future__ import annotations

import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from ollama_nb.store.keys import FILE_NAME, PREFIX, KeyFile
from ollama_nb.wire.errors import BadRequestError, ConflictError, NotFoundError, OllamaError


@pytest.fixture
def keys(tmp_path):
    return KeyFile(tmp_path / "home")


def test_without_a_file_there_are_no_keys(keys):
    assert list(keys.entries()) == []
    assert not keys.known("")
    assert not keys.known("onb-anything")


def test_a_key_is_known_from_its_creation_to_its_revocation(keys):
    text, key = keys.create("work")
    assert keys.known(text)
    assert [(entry.id, entry.name) for entry in keys.entries()] == [(key.id, "work")]
    assert keys.revoke("work") == key
    assert not keys.known(text)
    assert list(keys.entries()) == []


def test_a_key_has_32_random_bytes_behind_its_prefix_and_fits_into_a_url(keys):
    texts = {keys.create()[0] for _ in range(20)}
    assert len(texts) == 20
    for text in texts:
        assert text.startswith(PREFIX)
        assert len(text.removeprefix(PREFIX)) == 43
        assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_the_file_has_no_key_in_it_and_only_its_user_can_read_it(keys):
    text, key = keys.create("work")
    content = keys.path.read_text()
    assert text not in content
    assert text.removeprefix(PREFIX) not in content
    assert key.sha256 in content
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    keys.create("other")
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    assert sorted(entry.name for entry in keys.path.parent.iterdir() if entry.suffix != ".lock") == [FILE_NAME]


@pytest.mark.parametrize("change", [lambda text: text[:-1], lambda text: text + "x", str.upper, lambda text: text[4:]])
def test_what_is_nearly_a_key_is_none(keys, change):
    text, _ = keys.create()
    assert not keys.known(change(text))


@pytest.mark.parametrize("shown", ["ä", "\udcff", "x" * 100_000, "\x00"])
def test_any_text_can_be_asked_about(keys, shown):
    keys.create()
    assert not keys.known(shown)


def test_another_reader_notices_every_change(keys):
    reader = KeyFile(keys.path.parent)
    first, _ = keys.create("first")
    assert reader.known(first)
    second, _ = keys.create("second")
    assert reader.known(second)
    keys.revoke("first")
    assert not reader.known(first)
    keys.path.unlink()
    assert not reader.known(second)


def test_a_key_of_ones_own_is_known_to_this_reader_only_and_counts_as_none_in_the_file(tmp_path):
    reader = KeyFile(tmp_path, own="mine")
    assert reader.known("mine")
    assert list(reader.entries()) == []
    assert not KeyFile(tmp_path).known("mine")
    reader.create()
    assert reader.known("mine")
    assert "mine" not in reader.path.read_text()


def test_an_unchanged_file_is_not_read_again(keys, monkeypatch):
    text, _ = keys.create()
    assert keys.known(text)

    def read(_path):
        raise AssertionError("read again")

    monkeypatch.setattr(type(keys.path), "read_bytes", read)
    assert keys.known(text)


def test_a_key_can_be_revoked_by_its_id_too(keys):
    _, unnamed = keys.create()
    text, _ = keys.create("stays")
    assert keys.revoke(unnamed.id) == unnamed
    assert keys.known(text)


@pytest.mark.parametrize("name", ["nobody", "", "deadbeef"])
def test_a_key_that_is_not_there_cannot_be_revoked(keys, name):
    keys.create()
    with pytest.raises(NotFoundError, match=f'no key "{name}"'):
        keys.revoke(name)


def test_two_keys_cannot_have_one_name_nor_a_key_the_id_of_another(keys):
    _, key = keys.create("work")
    for taken in ("work", key.id):
        with pytest.raises(ConflictError, match=f'a key "{taken}" exists'):
            keys.create(taken)
    keys.create()
    keys.create()
    assert len(keys.entries()) == 3


@pytest.mark.parametrize("name", ["x" * 65, "a\nb", "a\x1b[2J", "\u202e"])
def test_a_name_is_short_and_printable(keys, name):
    with pytest.raises(BadRequestError, match="at most 64 characters"):
        keys.create(name)
    assert not keys.path.exists()


@pytest.mark.parametrize("content", [b"{", b'{"keys": 1}', b'{"keys": [{"id": "x"}]}', b"\xff\xfe"])
def test_a_file_that_cannot_be_understood_is_an_error_and_no_open_door(keys, content):
    keys.path.parent.mkdir()
    keys.path.write_bytes(content)
    for ask in (keys.entries, lambda: keys.known("x"), keys.create):
        with pytest.raises(OllamaError, match="cannot read the API keys") as caught:
            ask()
        assert str(keys.path) in caught.value.hint
    assert keys.path.read_bytes() == content


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OllamaError, match="ensure path elements are traversable"):
        KeyFile(tmp_path / "file" / "home").create()


def test_keys_made_at_the_same_time_by_many_all_stay(tmp_path):
    code = (
        "import sys, pathlib; from ollama_nb.store.keys import KeyFile\n"
        "for _ in range(10): KeyFile(pathlib.Path(sys.argv[1])).create()"
    )
    with ThreadPoolExecutor(3) as threads:
        jobs = [threads.submit(subprocess.run, [sys.executable, "-c", code, str(tmp_path)], check=True) for _ in "abc"]
        for job in jobs:
            job.result()
    assert len({key.id for key in KeyFile(tmp_path).entries()}) == 30
