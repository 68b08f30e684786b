from __future__ import annotations

import hashlib
import signal
import threading
from pathlib import Path

import nbformat
import pytest
from ipython_cells import run
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from ollama_nb.client import ChatResult, discovery
from ollama_nb.notebook import magics
from ollama_nb.notebook.magics import MagicError

WHOLE = "**Why not** - été"


def interrupt_after(seconds):
    """What the stop button does: a signal to the main thread, also while it waits for the network."""
    main = threading.main_thread().ident
    threading.Timer(seconds, signal.pthread_kill, (main, signal.SIGINT)).start()


def test_list_and_ps_are_data_frames_of_values(shell):
    models = run(shell, "%ollama list")
    assert list(models.columns) == ["name", "id", "size_bytes", "modified"]
    assert models.loc[0, ["name", "size_bytes"]].tolist() == ["smollm2:135m", 98_400_000]
    running = run(shell, "loaded = %ollama ps\nloaded")
    assert running.loc[0, "processor"] == "75%/25% CPU/GPU"


def test_show_is_text_without_quotes(shell):
    shown = run(shell, "%ollama show m --template")
    assert shown == "{{ .Prompt }}"
    assert shell.display_formatter.format(shown)[0]["text/plain"] == "{{ .Prompt }}"


def test_what_changes_models_says_what_it_did(shell, server, capsys, tmp_path):
    path = tmp_path / "tiny model.gguf"
    path.write_bytes(b"GGUF")
    run(shell, "%ollama cp a b")
    run(shell, "%ollama rm b")
    assert run(shell, "%ollama stop a") is None
    run(shell, f"%ollama create new --from '{path}' -p num_ctx=512 -p mirostat=1")
    digest = f"sha256:{hashlib.sha256(b'GGUF').hexdigest()}"
    assert server.last("/api/create")["files"] == {"tiny model.gguf": digest}
    out, err = capsys.readouterr()
    assert out.startswith("copied 'a' to 'b'\ndeleted 'b'\ngathering model components\n")
    assert out.endswith("\nparsing GGUF\nwriting manifest\nsuccess\ncreated 'new'\n")
    assert err == "warning: parameter mirostat is deprecated\n"


def test_the_cell_is_the_message_verbatim(shell, server):
    body = "  Explain {braces} and $HOME and 'quotes'\n\n%who # here\n"
    run(shell, f"%%ollama chat -m m\n{body}\n")
    assert server.last("/api/chat")["messages"] == [{"role": "user", "content": body}]


def test_options_are_typed_and_the_answer_is_kept(shell, server, capsys):
    run(shell, "%%ollama chat -m m -s 'Be $brief' -p temperature=0 -p stop={x} -p stop=y -o answer\nWhy?")
    asked = server.last("/api/chat")
    assert asked["options"] == {"temperature": 0.0, "stop": ["{x}", "y"]}
    assert asked["messages"][0] == {"role": "system", "content": "Be $brief"}
    answer = shell.user_ns["answer"]
    assert isinstance(answer, ChatResult)
    assert (answer.text, answer.timings.tokens_per_second) == (WHOLE, 15.0)
    assert capsys.readouterr().out == WHOLE + "\n"


def test_a_line_says_what_did_not_fit_into_the_context(shell, capsys):
    run(shell, "%%ollama chat -m forgetful\nWhat did I say first?")
    out, err = capsys.readouterr()
    assert out == "What?\n"
    assert err == (
        "Note: the oldest 12 messages (340 tokens) did not fit into the context and were left out; "
        "a larger context (-p num_ctx=N) keeps more.\n"
    )


def test_a_line_can_be_the_message_and_the_model_be_configured(shell, server):
    run(shell, "%config OllamaMagics.model = 'small'")
    run(shell, "%ollama chat Tell me why.")
    assert server.last("/api/chat") == {
        "model": "small",
        "messages": [{"role": "user", "content": "Tell me why."}],
        "stream": True,
    }


def test_the_server_can_be_configured(shell, server, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    run(shell, f"%config OllamaMagics.host = '{server.url}'")
    assert len(run(shell, "%ollama list")) == 2


def test_timings_are_the_sessions_calls(shell):
    run(shell, "%%ollama chat -m m\nWhy?")
    table = run(shell, "%ollama timings")
    assert table.loc[0, ["kind", "model", "ok", "tokens", "tokens_per_s"]].tolist() == ["chat", "m", True, 30, 15.0]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("%%ollama chat -m missing\nWhy?", "Error: model 'missing' not found\nCreate it first."),
        ("%%ollama chat -m fails\nWhy?", "Error: llama runner process has terminated\nTry again."),
        ("%%ollama chat -m breaks\nWhy?", "Error: "),
        ("%%ollama chat\nWhy?", "Error: No model: give -m MODEL, or set one with %config OllamaMagics.model"),
        ("%%ollama chat -m m\n \n", "Error: No message: "),
        ("%%ollama chat -m m words\nWhy?", "Error: The message is the cell below"),
        ("%%ollama chat -m m -p heat=1\nWhy?", "Error: unknown parameter 'heat'"),
        ("%%ollama chat -m m -o class\nWhy?", "Error: Invalid value for '-o' / '--output': 'class' is no name"),
        ("%%ollama list\nWhy?", "Error: Only chat, create and embed take the cell below them"),
        ("%ollama nonsense", "Error: No such command 'nonsense'.\nSee `%ollama --help`."),
        ("%ollama serve", "Error: No such command 'serve'."),
        ("%ollama show", "Error: Missing argument 'MODEL'.\nSee `%ollama show --help`."),
        ("%ollama show 'm", "Error: No closing quotation in: show 'm"),
    ],
)
def test_an_error_is_readable_has_no_traceback_and_fails_the_cell(shell, capsys, cell, message):
    done = shell.run_cell(cell)
    assert isinstance(done.error_in_exec, MagicError)
    out, err = capsys.readouterr()
    assert message in out + err
    assert "Traceback" not in out + err


def test_help_is_shown_and_is_no_error(shell, capsys):
    assert run(shell, "%ollama") is None
    assert run(shell, "%ollama chat --help") is None
    out = capsys.readouterr().out
    assert "chat     Send the cell" in out
    assert "Usage: %ollama chat" in out


def interrupt_soon():
    """What Jupyter's stop button does: a signal, which also ends a wait for the network."""
    threading.Timer(0.4, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()


def test_an_interrupt_keeps_what_came_and_reaches_the_server(shell, server, capsys):
    interrupt_soon()
    done = shell.run_cell("%%ollama chat -m endless -o answer\nWhy?")
    assert isinstance(done.error_in_exec, KeyboardInterrupt)
    assert server.left.wait(10)
    answer = shell.user_ns["answer"]
    assert answer.text.startswith("on and ")
    assert answer.done_reason == "interrupted"
    out, err = capsys.readouterr()
    assert "Interrupted: the answer was broken off; what came is in `answer`." in out + err
    assert "Traceback" not in out + err


def test_an_interrupt_before_the_first_word_reaches_the_server_too(shell, server, capsys):
    interrupt_soon()
    done = shell.run_cell("%%ollama chat -m silent\nWhy?")
    assert isinstance(done.error_in_exec, KeyboardInterrupt)
    assert server.left.wait(10)
    out, err = capsys.readouterr()
    assert "Interrupted: the server has been told to stop." in out + err


def test_without_a_server_one_is_started_once_and_said_in_one_line(shell, server, monkeypatch, capsys):
    class Started:
        url = server.url
        alive = True

    calls = []
    monkeypatch.delenv("OLLAMA_HOST")
    monkeypatch.setattr(discovery, "_DEFAULT", "http://127.0.0.1:9")
    monkeypatch.setattr(magics, "start_server", lambda: calls.append(1) or Started())
    assert len(run(shell, "%ollama list")) == 2
    assert len(run(shell, "%ollama list")) == 2
    assert len(calls) == 1
    assert capsys.readouterr().err == (f"No server found: started one at {server.url}, which ends with this session.\n")


def test_a_server_that_was_named_but_is_not_there_is_not_replaced(shell, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.setattr(magics, "start_server", lambda: pytest.fail("started a server"))
    assert "no server answers at http://127.0.0.1:9" in str(shell.run_cell("%ollama list").error_in_exec)


@pytest.fixture
def kernel(server, monkeypatch, tmp_path):
    """Runs cells in a real kernel; the notebook with its outputs."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("OLLAMA_HOST", server.url)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))

    def execute(*cells):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        client = NotebookClient(notebook, timeout=120, kernel_name="python3")
        try:
            client.execute()
        except CellExecutionError:
            notebook.metadata["failed"] = True
        return notebook

    return execute


def test_in_a_notebook_the_answer_is_markdown_and_an_error_stops_the_run(kernel):
    notebook = kernel(
        "%load_ext ollama_nb",
        "import sys\n[name for name in ('pandas', 'numpy', 'llama_cpp') if name in sys.modules]",
        "%%ollama chat -m m -o answer\nWhy?",
        "answer",
        "%ollama list",
        "%%ollama chat -m missing\nWhy?",
        "print('not reached')",
    )
    _, loaded, answer, kept, models, failed, after = (cell.outputs for cell in notebook.cells)
    assert loaded[0].data["text/plain"] == "[]"
    assert [output.output_type for output in answer] == ["display_data"]
    assert answer[0].data == {"text/markdown": WHOLE, "text/plain": WHOLE}
    assert kept[0].data["text/markdown"] == WHOLE
    assert "smollm2:135m" in models[0].data["text/html"]
    assert failed[-1].traceback == ["Error: model 'missing' not found", "Create it first."]
    assert (notebook.metadata.failed, after) == (True, [])
