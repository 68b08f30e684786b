"""``ollama-nb pull`` and ``push``, against the stand-in."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from docker_registry import docker_registry
from rich.console import Console
from samples import SMOLLM2, SMOLLM2_SHA256

from ollama_nb.cli import main
from ollama_nb.cli.main import TerminalSink, run
from ollama_nb.cli.transfers import model_page
from ollama_nb.client import Client

BLOBS = ["a" * 12, "b" * 12]
SUMMARY = r"98 MB in [0-9.]+ s \([0-9.]+ [KMG]B/s\)"


@pytest.fixture
def cli(server, capsys):
    """Runs a command line against the stand-in: exit code, stdout, lines of stderr."""

    def call(*args):
        code = run(args, connect=lambda: Client(server.url))
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    return call


ESCAPE = re.compile(r"\x1b\[[0-9?]*[A-Za-z]")


@pytest.fixture
def screen(monkeypatch):
    """What a terminal of 100 columns shows on stderr, with every redrawing of its bars."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(main, "TerminalSink", lambda: TerminalSink(console))
    return text


def test_where_nobody_watches_every_step_of_a_pull_is_one_line(cli):
    code, out, err = cli("pull", "smollm2:135m")
    *steps, summary = err
    assert (code, out) == (0, "")
    assert steps == ["pulling manifest", *(f"pulling {blob}" for blob in BLOBS), "writing manifest", "success"]
    assert re.fullmatch(f"pulled smollm2:135m: {SUMMARY}", summary)


@pytest.mark.parametrize("command", ["pull", "push"])
def test_a_registry_without_tls_has_to_be_allowed(cli, server, command):
    assert cli(command, "127.0.0.1:5000/ns/m", "--insecure")[0] == 0
    assert server.last(f"/api/{command}") == {"model": "127.0.0.1:5000/ns/m", "stream": True, "insecure": True}


@pytest.mark.parametrize(
    ("model", "page"),
    [
        ("ada/mine", "https://ollama.com/ada/mine"),
        ("ada/mine:latest", "https://ollama.com/ada/mine"),
        ("ada/mine:8b", "https://ollama.com/ada/mine:8b"),
        ("registry.ollama.ai/ada/mine", "https://ollama.com/ada/mine"),
        ("127.0.0.1:5000/ada/mine", None),
    ],
)
def test_a_push_says_where_the_model_is_if_that_is_known(cli, model, page):
    code, out, err = cli("push", model)
    assert code == 0
    assert model_page(model) == page
    assert out == (f"\nYou can find your model at:\n\n\t{page}\n" if page else "")
    assert err[0] == "pushing manifest"
    assert re.fullmatch(f"pushed {model}: {SUMMARY}", err[-1])


def test_a_namespace_of_others_is_told_as_by_ollama_with_what_to_do(cli):
    code, out, err = cli("push", "denied/m")
    assert (code, out) == (1, "")
    assert err[-2:] == [
        "Error: you are not authorized to push to this namespace, create the model under a namespace you own",
        "Add your key there.",
    ]


def test_a_pull_that_is_not_allowed_is_the_registrys_own_words(cli):
    assert cli("pull", "denied/m")[2][-2:] == ["Error: unauthorized: access denied", "Add your key there."]


@pytest.mark.parametrize(
    ("model", "lines"),
    [
        ("missing", ["Error: model 'missing' not found", "Create it first."]),
        ("fails", ["Error: max retries exceeded: no route to host", "Try again later."]),
    ],
)
@pytest.mark.parametrize("command", ["pull", "push"])
def test_an_error_is_one_line_and_what_to_do(cli, command, model, lines):
    code, out, err = cli(command, model)
    assert (code, out, err[-2:]) == (1, "", lines)


def test_a_terminal_sees_a_bar_for_each_blob_and_what_follows_below_them(cli, screen):
    assert cli("pull", "m")[0] == 0
    shown = ESCAPE.sub("", screen.getvalue()).splitlines()
    full = [next(row for row, line in enumerate(shown) if blob in line and size in line) for blob, size in
            zip(BLOBS, ("90.0/90.0 MB", "8.0/8.0 MB"), strict=True)]  # fmt: skip
    assert shown.index("writing manifest") > max(full)
    assert shown[-1].startswith("pulled m: 98 MB in ")


def test_bars_of_what_failed_stay_as_they_were(cli, screen):
    assert cli("pull", "fails")[0] == 1
    assert any("a" * 12 in line and "40.0/90.0 MB" in line for line in screen.getvalue().splitlines()[-3:])


def test_what_was_there_before_is_no_part_of_a_bars_rate():
    text = io.StringIO()
    with TerminalSink(Console(file=text, force_terminal=True, width=100, color_system=None)) as sink:
        sink.progress("pulling a", 50, 100)
        assert "/s" not in text.getvalue()
        for completed in (60, 70, 80):
            sink.progress("pulling a", completed, 100)
    assert re.search(r"\d+ [KMGT]?B/s \d+ s left\s", text.getvalue())


@pytest.mark.parametrize(
    ("command", "consolation"),
    [
        ("pull", "Interrupted: the next pull of this model goes on where this one stopped."),
        ("push", "Interrupted: the next push of this model sends what the registry does not have yet."),
    ],
)
def test_an_interrupt_reaches_the_server_and_says_what_is_kept(server, command, consolation):
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OLLAMA_HOST": server.url}
    program = subprocess.Popen(
        [sys.executable, "-m", "ollama_nb", command, "endless"], env=environ, stderr=subprocess.PIPE, text=True
    )
    with program:
        seen = [program.stderr.readline() for _ in range(3)]
        program.send_signal(signal.SIGINT)
        err = program.communicate(timeout=60)[1]
    assert seen[-1].strip().endswith("b" * 12)
    assert server.left.wait(10)
    assert (program.returncode, err.splitlines()[-1]) == (130, consolation)
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["pull", "push"])
def test_the_help_says_what_it_does(capsys, command):
    assert run([command, "--help"]) == 0
    assert "--insecure" in capsys.readouterr().out


def test_between_real_servers_a_model_goes_through_a_real_registry(start, tmp_path, capsys, screen):
    (tmp_path / "there" / "models").mkdir(parents=True)
    with (
        docker_registry(tmp_path / "registry") as registry,
        start(tmp_path / "here") as here,
        start(tmp_path / "there") as there,
    ):
        name = f"{registry.host}/ada/tiny"

        def at(server, *args):
            return run(args, connect=lambda: Client(server.url))

        assert at(here, "cp", SMOLLM2, name) == 0
        assert at(here, "push", name, "--insecure") == 0
        assert at(there, "pull", name, "--insecure") == 0
        capsys.readouterr()
        assert at(there, "list") == 0
        assert capsys.readouterr().out.splitlines()[1].startswith(f"{name}:latest ")
        assert at(there, "pull", name, "--insecure") == 0
        assert at(there, "pull", f"{name}:absent", "--insecure") == 1
        assert capsys.readouterr().err.startswith("Error: pull model manifest: file does not exist\n")
    shown = ESCAPE.sub("", screen.getvalue()).splitlines()
    done = [line for line in shown if line.startswith(("pushed", "pulled"))]
    assert re.fullmatch(f"pushed {name}: {SUMMARY}", done[0])
    assert re.fullmatch(f"pulled {name}: {SUMMARY}", done[1])
    assert done[2] == f"pulled {name}: 98 MB, up to date"
    for doing in ("pushing", "pulling"):
        assert any(f"{doing} {SMOLLM2_SHA256[:12]}" in line and "98.4/98.4 MB" in line for line in shown)
