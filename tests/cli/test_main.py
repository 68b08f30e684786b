from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from ollama_nb import __version__
from ollama_nb.cli.main import TerminalSink, run
from ollama_nb.client import Client, discovery


@pytest.fixture
def cli(server, capsys):
    """Runs a command line against the stand-in: exit code, stdout, stderr."""

    def call(*args):
        code = run(args, connect=lambda: Client(server.url))
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def empty_folder(monkeypatch, tmp_path):
    """A working folder without a Modelfile."""
    monkeypatch.chdir(tmp_path)


def test_list_has_ollamas_columns(cli):
    code, out, err = cli("list")
    head, first, second = out.splitlines()
    assert (code, err) == (0, "")
    assert head.split() == ["NAME", "ID", "SIZE", "MODIFIED"]
    assert first.startswith("smollm2:135m    0123456789ab    98 MB    ")
    assert first.endswith(" ago")
    assert second == "Other:latest    ffffffffffff    12 GB    Never"


def test_list_filters_by_a_prefix_in_any_case_and_is_also_ls(cli):
    assert [line.split()[0] for line in cli("ls", "other")[1].splitlines()] == ["NAME", "Other:latest"]


def test_ps_has_ollamas_columns_and_a_prefix_that_knows_case(cli):
    head, row = cli("ps")[1].splitlines()
    assert head.split() == ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"]
    assert row == "smollm2:135m    0123456789ab    200 MB    75%/25% CPU/GPU    2048       Forever"
    assert len(cli("ps", "SMOL")[1].splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--template", "{{ .Prompt }}\n"),
        ("--modelfile", "# Modelfile\nFROM /blobs/sha256-1\n\n"),
        ("--parameters", 'stop                           "<|im_end|>"\n'),
        ("--license", "Apache License\nVersion 2.0\n"),
        ("--system", "Be kind.\n\nBe brief.\nBe true.\n"),
    ],
)
def test_show_gives_one_part_as_it_is(cli, option, text):
    assert cli("show", "m", option) == (0, text, "")


def test_show_gives_the_card(cli, server):
    assert "  Capabilities\n    completion\n    tools\n" in cli("show", "m")[1]
    assert "  Tensors\n" in cli("show", "-v", "m")[1]
    assert server.last("/api/show") == {"model": "m", "verbose": True}


def test_show_gives_one_part_at_a_time(cli):
    code, out, err = cli("show", "m", "--system", "--license")
    assert (code, out) == (1, "")
    assert err.startswith("Error: only one of '--license', '--modelfile', '--parameters', '--system', or '--template'")


def test_stop_unloads(cli, server):
    assert cli("stop", "m") == (0, "", "")
    assert server.last("/api/generate") == {"model": "m", "keep_alive": 0, "stream": False}


def test_stop_says_which_model_is_not_there(cli):
    code, _, err = cli("stop", "missing")
    assert (code, err) == (1, 'Error: couldn\'t find model "missing" to stop\nCreate it first.\n')


def test_cp_and_rm_say_what_they_did(cli, server):
    assert cli("cp", "a", "b") == (0, "copied 'a' to 'b'\n", "")
    assert cli("rm", "a", "b") == (0, "deleted 'a'\ndeleted 'b'\n", "")
    asked = [(path, body["model"]) for _, path, body in server.asked if path != "/api/copy"]
    assert asked == [("/api/generate", "a"), ("/api/delete", "a"), ("/api/generate", "b"), ("/api/delete", "b")]


def test_rm_of_an_unknown_model_is_the_servers_error(cli):
    assert cli("rm", "missing") == (1, "", "Error: model 'missing' not found\nCreate it first.\n")


def test_create_from_a_model_sends_typed_parameters(cli, server):
    code, out, err = cli("create", "new", "--from", "base", "-s", "Hi", "-p", "temperature=0.5", "-p", "stop=a=b")
    assert (code, out, err.splitlines()) == (0, "", ["parsing GGUF", "writing manifest", "success"])
    assert server.last("/api/create") == {
        "model": "new",
        "stream": True,
        "from": "base",
        "system": "Hi",
        "parameters": {"temperature": 0.5, "stop": ["a=b"]},
    }


@pytest.mark.parametrize("option", ["-t", "--template"])
def test_create_sends_a_template(cli, server, option):
    code, _, _ = cli("create", "new", "--from", "base", option, "<user>{{ .Prompt }}</user>")
    assert code == 0
    assert server.last("/api/create") == {
        "model": "new",
        "stream": True,
        "from": "base",
        "template": "<user>{{ .Prompt }}</user>",
    }


def test_create_from_a_file_uploads_it_once(cli, server, tmp_path):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF" * 100)
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    _, _, first = cli("create", "new", "--from", str(path))
    _, _, second = cli("create", "new", "--from", str(path))
    assert server.blobs == {digest: path.read_bytes()}
    assert server.last("/api/create") == {"model": "new", "stream": True, "files": {"tiny.gguf": digest}}
    assert f"copying file {digest}" in first
    assert "copying file" not in second


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--from", "x", "-p", "nonsense=1"], "unknown parameter 'nonsense'"),
        (["--from", "x", "-p", "num_ctx=many"], "invalid int value [many]"),
        (["--from", "./absent.gguf"], "no such file: ./absent.gguf"),
        (["--from", "."], "no Modelfile or safetensors files found"),
        ([], "no Modelfile or safetensors files found"),
        (["-f", "absent"], "specified Modelfile wasn't found"),
        (["-f", "."], "specified Modelfile wasn't found"),
        (["-f", "x", "--from", "y"], "Give a Modelfile with -f, or what to build on with --from, not both."),
    ],
)
def test_create_refuses_what_cannot_work_before_it_asks_the_server(cli, server, args, message):
    code, _, err = cli("create", "new", *args)
    assert (code, err.splitlines()[0]) == (1, f"Error: {message}")
    assert not server.asked


def test_a_deprecated_parameter_is_a_warning(cli, server):
    _, _, err = cli("create", "new", "--from", "base", "-p", "mirostat=1")
    assert err.startswith("warning: parameter mirostat is deprecated\n")
    assert "parameters" not in server.last("/api/create")


@pytest.mark.parametrize("asked", [["version"], ["--version"], ["-v"]])
def test_the_servers_version_is_told_and_the_clients_if_it_is_another(cli, server, asked):
    assert cli(*asked) == (0, f"ollama version is 0.10.0\nWarning: client version is {__version__}\n", "")
    server.replies["/api/version"] = f'{{"version":"{__version__}"}}'.encode()
    assert cli(*asked) == (0, f"ollama version is {__version__}\n", "")


def test_without_a_server_the_version_is_the_clients(monkeypatch, capsys):
    monkeypatch.setattr(discovery, "_DEFAULT", "http://127.0.0.1:9")
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == (
        f"Warning: could not connect to a running Ollama instance\nWarning: client version is {__version__}\n"
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["frobnicate"], "Error: No such command 'frobnicate'."),
        (["show"], "Error: Missing argument 'MODEL'."),
        (["list", "--nope"], "Error: No such option"),
        (["rm"], "Error: Missing argument 'MODEL...'."),
    ],
)
def test_a_wrong_command_line_is_one_error_and_where_to_read_more(cli, args, message):
    code, out, err = cli(*args)
    assert (code, out) == (1, "")
    first, second = err.splitlines()
    assert first.startswith(message)
    assert second.endswith("--help`.")


def test_without_a_command_the_usage_is_shown(cli):
    code, out, _ = cli()
    assert (code, out.startswith("Usage: ollama-nb ")) == (0, True)
    assert "serve" in out


def test_an_interrupt_ends_with_the_shells_code(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    assert run(["list"], connect=interrupted) == 130


def test_the_program_runs_as_a_module(server):
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OLLAMA_HOST": server.url}
    command = [sys.executable, "-m", "ollama_nb"]
    listed = subprocess.run([*command, "list"], env=environ, capture_output=True, text=True, check=True, timeout=60)
    assert "smollm2:135m" in listed.stdout
    failed = subprocess.run(
        [*command, "rm", "missing"], env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert (failed.returncode, failed.stderr.splitlines()[0]) == (1, "Error: model 'missing' not found")


def test_a_terminal_sees_a_bar_for_each_transfer():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    with TerminalSink(console) as sink:
        sink.status("gathering [model] components")
        sink.progress("copying file sha256:12", 500, 1000)
        sink.progress("copying file sha256:12", 1000, 1000)
    assert "gathering [model] components" in screen.getvalue()
    assert "1.0/1.0 kB" in screen.getvalue()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_long_label_leaves_room_for_its_bar(width):
    screen = io.StringIO()
    with TerminalSink(Console(file=screen, force_terminal=True, width=width, color_system=None)) as sink:
        sink.progress("copying file sha256:" + "0" * 64, 500, 1000)
    shown = screen.getvalue().splitlines()
    assert any("copying file sha256:0" in line and "━" in line and "0.5/1.0 kB" in line for line in shown)


def test_where_nobody_watches_each_step_is_one_line():
    screen = io.StringIO()
    with TerminalSink(Console(file=screen, width=40)) as sink:
        for done in (1, 2, 3):
            sink.progress("copying file sha256:" + "0" * 64, done, 3)
        sink.status("success")
    assert screen.getvalue() == "copying file sha256:" + "0" * 64 + "\nsuccess\n"
