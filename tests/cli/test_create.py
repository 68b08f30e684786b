"""``ollama-nb create`` with Modelfiles, against the stand-in."""

from __future__ import annotations

import hashlib

import pytest

from ollama_nb.cli.main import run
from ollama_nb.client import Client

COMMANDS = 'command must be one of "from", "license", "template", "system", "adapter", "parameter", or "message"'
SERVERS = ["parsing GGUF", "writing manifest", "success"]


@pytest.fixture
def cli(server, capsys, tmp_path, monkeypatch):
    """Runs ``create new`` in an empty folder: exit code, stdout, lines of stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*args):
        code = run(["create", "new", *args], connect=lambda: Client(server.url))
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    return call


def test_the_modelfile_here_is_taken_if_none_is_named(cli, server, tmp_path):
    (tmp_path / "Modelfile").write_text("from base\nSYSTEM You are Mario.\nPARAMETER temperature 0.5\n")
    assert cli() == (0, "", SERVERS)
    assert server.last("/api/create") == {
        "model": "new",
        "stream": True,
        "from": "base",
        "system": "You are Mario.",
        "parameters": {"temperature": 0.5},
    }


@pytest.mark.parametrize("option", ["-f", "--file"])
def test_a_named_modelfiles_paths_begin_in_its_own_folder(cli, server, tmp_path, option):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "tiny.gguf").write_bytes(b"GGUF tiny")
    (tmp_path / "sub" / "My.Modelfile").write_text("FROM ./tiny.gguf\n")
    code, _, err = cli(option, "sub/My.Modelfile")
    digest = f"sha256:{hashlib.sha256(b'GGUF tiny').hexdigest()}"
    assert (code, err) == (
        0,
        ["gathering model components", "reading tiny.gguf", f"copying file {digest}", *SERVERS],
    )
    assert server.last("/api/create") == {"model": "new", "stream": True, "files": {"tiny.gguf": digest}}


def test_without_a_modelfile_the_folder_here_is_the_model(cli, server, tmp_path):
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).write_bytes(name.encode())
    assert cli()[0] == 0
    assert sorted(server.last("/api/create")["files"]) == ["config.json", "model.safetensors"]
    assert sorted(server.blobs.values()) == [b"config.json", b"model.safetensors"]


def test_a_folder_can_be_named_without_a_modelfile(cli, server, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.safetensors").write_bytes(b"x")
    assert cli("--from", "m")[0] == 0
    assert list(server.last("/api/create")["files"]) == ["model.safetensors"]


@pytest.mark.parametrize("option", ["-q", "--quantize"])
def test_the_weights_can_be_made_smaller(cli, server, option):
    assert cli("--from", "base", option, "q4_K_M")[0] == 0
    assert server.last("/api/create") == {"model": "new", "stream": True, "from": "base", "quantize": "q4_K_M"}


def test_options_go_before_the_modelfile(cli, server, tmp_path):
    (tmp_path / "Modelfile").write_text("FROM base\nSYSTEM a\nTEMPLATE t\nPARAMETER seed 1\nPARAMETER top_k 2\n")
    assert cli("-s", "b", "-p", "seed=3")[0] == 0
    asked = server.last("/api/create")
    assert (asked["system"], asked["template"], asked["parameters"]) == ("b", "t", {"seed": 3, "top_k": 2})


def test_what_the_modelfile_loses_is_a_warning_of_its_own(cli, tmp_path):
    (tmp_path / "Modelfile").write_text("FROM base\nPARAMETER low_vram true\nREQUIRES 0.14.0\n")
    assert cli()[2] == [
        "warning: parameter low_vram is deprecated",
        "warning: REQUIRES 0.14.0 is about Ollama's versions and is not checked",
        *SERVERS,
    ]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "FROM base\nPARAMETR a 1",
            [
                f"Error: (line 2): {COMMANDS}",
                "Line 2 reads: PARAMETR a 1",
            ],
        ),
        ("FROM base\n\nPARAMETER heat 1", ["Error: unknown parameter 'heat'"]),
        ("FROM base\nPARAMETER seed a", ["Error: invalid int value [a]", "In line 2."]),
        ("SYSTEM a", ["Error: no FROM line"]),
        ("FROM ./absent.gguf", ["Error: no such file: ./absent.gguf"]),
    ],
)
def test_errors_are_one_line_and_where_to_look(cli, server, tmp_path, text, lines):
    (tmp_path / "Modelfile").write_text(text)
    code, out, err = cli()
    assert (code, out, err[: len(lines)]) == (1, "", lines)
    assert len(err) <= 2
    assert not server.asked


def test_the_help_names_every_option(capsys):
    assert run(["create", "--help"]) == 0
    text = capsys.readouterr().out
    for option in ("-f, --file", "--from", "-q, --quantize", "-s, --system", "-t, --template", "-p, --parameter"):
        assert option in text


def test_a_modelfile_of_a_user_who_is_not_there_is_told(cli, server):
    assert cli("-f", "~nobody-of-that-name/Modelfile") == (1, "", ["Error: failed to find user 'nobody-of-that-name'"])
    assert not server.asked
