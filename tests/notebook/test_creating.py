"""``%%ollama create``: the cell as a Modelfile, against the stand-in."""

from __future__ import annotations

import hashlib

import pytest
from ipython_cells import run

from ollama_nb.notebook.magics import MagicError

SERVERS = ["parsing GGUF", "writing manifest", "success"]


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch, tmp_path):
    """Paths of cells begin in a folder of the test."""
    monkeypatch.chdir(tmp_path)


def test_the_cell_is_the_modelfile(shell, server, capsys):
    cell = '%%ollama create mario -q q8_0\nFROM base\n# who\nSYSTEM """You are {Mario}.\n$HOME"""\nPARAMETER top_k 5\n'
    assert run(shell, cell) is None
    assert server.last("/api/create") == {
        "model": "mario",
        "stream": True,
        "from": "base",
        "quantize": "q8_0",
        "system": "You are {Mario}.\n$HOME",
        "parameters": {"top_k": 5},
    }
    assert capsys.readouterr().out.splitlines() == [*SERVERS, "created 'mario'"]


def test_paths_begin_in_the_notebooks_folder(shell, server, tmp_path, capsys):
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF tiny")
    run(shell, "%%ollama create tiny\nFROM ./tiny.gguf")
    digest = f"sha256:{hashlib.sha256(b'GGUF tiny').hexdigest()}"
    assert server.last("/api/create") == {"model": "tiny", "stream": True, "files": {"tiny.gguf": digest}}
    assert server.blobs == {digest: b"GGUF tiny"}
    assert capsys.readouterr().out.splitlines() == [
        "gathering model components",
        "reading tiny.gguf",
        f"copying file {digest}",
        *SERVERS,
        "created 'tiny'",
    ]


def test_options_go_before_the_cell_and_warnings_are_shown(shell, server, capsys):
    run(shell, "%%ollama create m -s 'Be brief.' -p seed=2\nFROM base\nSYSTEM Be long.\nPARAMETER mirostat 1")
    asked = server.last("/api/create")
    assert (asked["system"], asked["parameters"]) == ("Be brief.", {"seed": 2})
    assert capsys.readouterr().err == "warning: parameter mirostat is deprecated\n"


def test_a_line_of_its_own_is_the_terminals_command(shell, server, tmp_path, capsys):
    (tmp_path / "Modelfile").write_text("FROM base\nSYSTEM S\n")
    run(shell, "%ollama create a")
    assert server.last("/api/create") == {"model": "a", "stream": True, "from": "base", "system": "S"}
    run(shell, "%ollama create b --from other")
    assert server.last("/api/create") == {"model": "b", "stream": True, "from": "other"}
    assert capsys.readouterr().out.splitlines()[-1] == "created 'b'"


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("%%ollama create\nFROM base", "Error: Missing argument 'MODEL'."),
        ("%%ollama create m\nSYSTEM a", "Error: no FROM line\nSay what to build on"),
        ("%%ollama create m\nFROM base\nPARAMETR a 1", "Error: (line 2): command must be one of"),
        ("%%ollama create m\nFROM base\nPARAMETR a 1", "\nLine 2 reads: PARAMETR a 1"),
        ("%%ollama create m\nFROM base\nPARAMETER seed x", "Error: invalid int value [x]\nIn line 2."),
        ("%%ollama create m\nFROM ./absent.gguf", "Error: no such file: ./absent.gguf"),
        ("%%ollama create m -f Modelfile\nFROM base", "Error: The Modelfile is the cell below"),
        ("%%ollama create m --from x\nFROM base", "Error: The Modelfile is the cell below"),
        ("%%ollama create missing\nFROM base", "Error: model 'missing' not found\nCreate it first."),
        ("%ollama create m -f absent", "Error: specified Modelfile wasn't found"),
    ],
)
def test_an_error_is_readable_has_no_traceback_and_fails_the_cell(shell, capsys, cell, message):
    done = shell.run_cell(cell)
    assert isinstance(done.error_in_exec, MagicError)
    out, err = capsys.readouterr()
    assert message in out + err
    assert "Traceback" not in out + err
    assert "created" not in out


def test_the_help_names_both_ways(shell, capsys):
    run(shell, "%ollama create --help")
    out = capsys.readouterr().out
    assert "Usage: %ollama create [OPTIONS] MODEL" in out
    assert "Create MODEL from the cell, which is a Modelfile" in out
