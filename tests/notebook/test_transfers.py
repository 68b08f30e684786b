"""``%ollama pull`` and ``%ollama push`` in cells, against the stand-in."""

from __future__ import annotations

import re
import signal
import threading
from pathlib import Path

import nbformat
import pytest
from docker_registry import docker_registry
from ipython_cells import run
from nbclient import NotebookClient
from samples import SMOLLM2

from ollama_nb.notebook.magics import MagicError

SUMMARY = r"98 MB in [0-9.]+ s \([0-9.]+ [KMG]B/s\)"


def test_without_a_page_every_step_is_one_line(shell, server, capsys):
    run(shell, "%ollama pull m --insecure")
    assert server.last("/api/pull") == {"model": "m", "stream": True, "insecure": True}
    *steps, summary = capsys.readouterr().out.splitlines()
    assert steps == ["pulling manifest", "pulling aaaaaaaaaaaa", "pulling bbbbbbbbbbbb", "writing manifest", "success"]
    assert re.fullmatch(f"pulled m: {SUMMARY}", summary)


def test_a_push_says_where_the_model_is(shell, capsys):
    run(shell, "%ollama push ada/mine")
    out = capsys.readouterr().out
    assert re.search(r"^pushed ada/mine: 98 MB in ", out, re.MULTILINE)
    assert out.endswith("\nYou can find your model at:\n\n\thttps://ollama.com/ada/mine\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%ollama pull missing", "Error: model 'missing' not found\nCreate it first."),
        ("%ollama pull fails", "Error: max retries exceeded: no route to host\nTry again later."),
        ("%ollama push denied/m", "Error: you are not authorized to push to this namespace, create the model under"),
        ("%ollama push denied/m", "\nAdd your key there."),
        ("%ollama pull", "Error: Missing argument 'MODEL'.\nSee `%ollama pull --help`."),
        ("%%ollama pull m\nx", "Error: Only chat, create and embed take the cell below them"),
    ],
)
def test_an_error_is_readable_has_no_traceback_and_fails_the_cell(shell, capsys, line, message):
    done = shell.run_cell(line)
    assert isinstance(done.error_in_exec, MagicError)
    out, err = capsys.readouterr()
    assert message in out + err
    assert "Traceback" not in out + err


@pytest.mark.parametrize(("command", "kept"), [("pull", "goes on where this one stopped"), ("push", "does not have")])
def test_an_interrupt_reaches_the_server_and_says_what_is_kept(shell, server, capsys, command, kept):
    threading.Timer(0.4, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
    done = shell.run_cell(f"%ollama {command} endless")
    assert isinstance(done.error_in_exec, KeyboardInterrupt)
    assert server.left.wait(10)
    out, err = capsys.readouterr()
    assert f"Interrupted: the next {command} of this model " in out + err
    assert kept in out + err
    assert "Traceback" not in out + err


@pytest.fixture
def notebook(monkeypatch, tmp_path):
    """Runs cells in a real kernel, whichever of them fail; their outputs, one list a cell."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))

    def execute(url, *sources):
        monkeypatch.setenv("OLLAMA_HOST", url)
        cells = [nbformat.v4.new_code_cell(source) for source in ("%load_ext ollama_nb", *sources)]
        notebook = nbformat.v4.new_notebook(cells=cells)
        NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=True).execute()
        return [cell.outputs for cell in notebook.cells[1:]]

    return execute


def test_one_line_is_left_of_what_went_well_and_the_bars_of_what_did_not(notebook, server):
    well, badly = notebook(server.url, "%ollama pull m", "%ollama pull fails")
    assert [output.output_type for output in well] == ["display_data"]
    assert list(well[0].data) == ["text/plain"]
    assert re.fullmatch(f"pulled m: {SUMMARY}", well[0].data["text/plain"])
    bars, error = badly
    assert "40 MB of 90 MB" in bars.data["text/html"]
    assert "pulling aaaaaaaaaaaa  [########            ]  44%  40 MB of 90 MB" in bars.data["text/plain"]
    assert error.traceback == ["Error: max retries exceeded: no route to host", "Try again later."]


def test_a_real_server_pulls_from_a_real_registry(notebook, start, tmp_path):
    with docker_registry(tmp_path / "registry") as registry, start(tmp_path / "server") as real:
        name = f"{registry.host}/ada/tiny"
        pushed, _, pulled, again, absent = notebook(
            real.url,
            f"%ollama cp {SMOLLM2} {name}\n%ollama push {name} --insecure",
            f"%ollama rm {SMOLLM2} {name}",
            f"%ollama pull {name} --insecure",
            f"%ollama pull {name} --insecure",
            f"%ollama pull {name}:absent --insecure",
        )
    assert re.fullmatch(f"pushed {name}: {SUMMARY}", pushed[-1].data["text/plain"])
    assert re.fullmatch(f"pulled {name}: {SUMMARY}", pulled[0].data["text/plain"])
    assert again[0].data["text/plain"] == f"pulled {name}: 98 MB, up to date"
    assert absent[-1].traceback[0] == "Error: pull model manifest: file does not exist"
