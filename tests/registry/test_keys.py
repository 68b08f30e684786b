"""The key by which registries know a user: one file, ssh-keygen's and Ollama's, that is never replaced."""

from __future__ import annotations

import base64
import os
import shutil
import stat
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from ollama_nb.registry.keys import KeyPair
from ollama_nb.wire.errors import OllamaError

if TYPE_CHECKING:
    from pathlib import Path

needs_ssh_keygen = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")


def verify(public_line: str, signature: str, text: bytes) -> None:
    """Raises unless the second half of what ``sign`` gave is the signature of ``text`` by that key."""
    _, _, encoded = signature.partition(":")
    load_ssh_public_key(public_line.encode()).verify(base64.b64decode(encoded), text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def ssh_keygen(*arguments: str) -> str:
    return subprocess.run(["ssh-keygen", *arguments], check=True, capture_output=True, text=True).stdout


def test_a_key_is_made_when_it_is_first_needed_and_not_before(tmp_path):
    folder = tmp_path / "home" / ".ollama"
    key = KeyPair(folder)
    assert not folder.exists()
    line = key.public_text
    assert (folder / "id_ed25519.pub").read_text() == f"{line}\n"
    assert line.startswith("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5")
    assert names(folder) == ["id_ed25519", "id_ed25519.pub"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_only_the_user_may_read_it(tmp_path):
    folder = tmp_path / ".ollama"
    KeyPair(folder).sign(b"")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "id_ed25519").stat().st_mode) == 0o600


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
@pytest.mark.parametrize(("mode", "is_told"), [(0o600, False), (0o400, False), (0o640, True), (0o644, True)])
def test_a_key_that_others_may_read_is_used_and_told(tmp_path, caplog, mode, is_told):
    line = KeyPair(tmp_path).public_text
    (tmp_path / "id_ed25519").chmod(mode)
    assert KeyPair(tmp_path).public_text == line
    assert ("chmod 600" in caplog.text) is is_told


def test_a_signature_names_the_key_and_holds(tmp_path):
    key = KeyPair(tmp_path)
    signed = key.sign(b"GET,https://registry.example/token?ts=1,")
    name, _, signature = signed.partition(":")
    assert name == key.public_text.split()[1]
    assert len(base64.b64decode(signature)) == 64
    verify(key.public_text, signed, b"GET,https://registry.example/token?ts=1,")


def test_the_key_stays_the_same(tmp_path):
    first = KeyPair(tmp_path).sign(b"text")
    before = (tmp_path / "id_ed25519").read_bytes()
    assert KeyPair(tmp_path).sign(b"text") == first
    assert (tmp_path / "id_ed25519").read_bytes() == before


def test_a_missing_public_line_is_written_again(tmp_path):
    line = KeyPair(tmp_path).public_text
    (tmp_path / "id_ed25519.pub").unlink()
    assert KeyPair(tmp_path).public_text == line
    assert (tmp_path / "id_ed25519.pub").read_text() == f"{line}\n"


@needs_ssh_keygen
def test_a_key_of_ssh_keygen_is_used_as_it_is(tmp_path):
    ssh_keygen("-q", "-t", "ed25519", "-N", "", "-C", "ada@example", "-f", str(tmp_path / "id_ed25519"))
    theirs = (tmp_path / "id_ed25519.pub").read_text()
    key = KeyPair(tmp_path)
    assert key.public_text == " ".join(theirs.split()[:2])
    verify(theirs, key.sign(b"text"), b"text")
    assert (tmp_path / "id_ed25519.pub").read_text() == theirs


@needs_ssh_keygen
def test_ssh_keygen_reads_a_key_made_here(tmp_path):
    line = KeyPair(tmp_path).public_text
    assert ssh_keygen("-y", "-P", "", "-f", str(tmp_path / "id_ed25519")).split()[:2] == line.split()


def test_threads_that_make_it_at_once_end_with_one_key(tmp_path):
    begin = threading.Barrier(8)
    lines = []

    def make() -> None:
        key = KeyPair(tmp_path / "new")
        begin.wait()
        lines.append(key.public_text)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines) == 8
    assert len({*lines, KeyPair(tmp_path / "new").public_text}) == 1
    assert names(tmp_path / "new") == ["id_ed25519", "id_ed25519.pub"]


def test_processes_that_make_it_at_once_end_with_one_key(tmp_path):
    code = "import sys, pathlib; from ollama_nb.registry.keys import KeyPair; key = KeyPair(pathlib.Path(sys.argv[1]));"
    code += "sys.stdin.readline(); print(key.public_text)"
    made = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in made:
        process.stdin.write("\n")
        process.stdin.flush()
    assert len({process.communicate(timeout=60)[0].strip() for process in made} | {KeyPair(tmp_path).public_text}) == 1


def test_a_file_system_without_hard_links_is_enough(tmp_path, monkeypatch):
    def refuse(*_args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    line = KeyPair(tmp_path).public_text
    assert KeyPair(tmp_path).public_text == line
    assert names(tmp_path) == ["id_ed25519", "id_ed25519.pub"]


def put(folder, data: bytes) -> None:
    (folder / "id_ed25519").write_bytes(data)


def put_protected(folder) -> None:
    ssh_keygen("-q", "-t", "ed25519", "-N", "secret", "-f", str(folder / "id_ed25519"))


def put_rsa(folder) -> None:
    ssh_keygen("-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(folder / "id_ed25519"))


def put_cut(folder) -> None:
    KeyPair(folder).sign(b"")
    put(folder, (folder / "id_ed25519").read_bytes()[:200])


@pytest.mark.parametrize(
    ("make", "why"),
    [
        pytest.param(put_protected, "it is protected by a password", marks=needs_ssh_keygen, id="password"),
        pytest.param(put_rsa, "it is a key of another kind than ed25519", marks=needs_ssh_keygen, id="rsa"),
        pytest.param(put_cut, "it is no OpenSSH private key, or damaged", id="cut short"),
        pytest.param(lambda folder: put(folder, b""), "it is no OpenSSH private key, or damaged", id="empty"),
        pytest.param(lambda folder: put(folder, b"\xff" * 999), "it is no OpenSSH private key, or damaged", id="noise"),
        pytest.param(lambda folder: (folder / "id_ed25519").mkdir(), "it cannot be read (Is a directory)", id="folder"),
    ],
)
def test_a_file_that_is_no_usable_key_is_named_and_kept(tmp_path, make, why):
    make(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OllamaError) as raised:
        KeyPair(tmp_path).sign(b"text")
    assert raised.value.message == f"the key for registries, {tmp_path / 'id_ed25519'}, cannot be used: {why}"
    assert "move the file away" in raised.value.hint
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_that_cannot_be_made_is_an_error_with_advice(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OllamaError, match="cannot be used: it cannot be read"):
        KeyPair(tmp_path / "file").sign(b"text")
