"""Every notebook runs top to bottom, in a kernel that a real Jupyter Server has started."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from jupyter_process import TOKEN, JupyterProcess
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory, make_store):
    folder = tmp_path_factory.mktemp("jupyter")
    store = make_store(tmp_path_factory.mktemp("store"))
    with JupyterProcess.start(folder, OLLAMA_MODELS=str(store)) as process:
        yield process


class ServerKernel(AsyncKernelManager):
    """A kernel that lives in the server: nbclient only connects to it."""

    def __init__(self, server: JupyterProcess, kernel_id: str) -> None:
        super().__init__(owns_kernel=False, connection_file=str(server.runtime / f"kernel-{kernel_id}.json"))
        self._server = server
        self._id = kernel_id
        self.load_connection_file()

    @property
    def has_kernel(self) -> bool:
        return True

    async def is_alive(self) -> bool:
        status, _ = await asyncio.to_thread(self._server.get, f"/api/kernels/{self._id}")
        return status == 200


def run(jupyter: JupyterProcess, notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with its outputs."""
    status, body = jupyter.post("/api/kernels", {"name": "python3"})
    assert status == 201, body
    kernel_id = json.loads(body)["id"]
    client = NotebookClient(notebook, km=ServerKernel(jupyter, kernel_id), timeout=240)
    try:
        return client.execute()
    finally:
        # The kernel is the server's, so nbclient leaves its own end of the connection open.
        client.kc.stop_channels()
        client.km.context.destroy()
        jupyter.request("DELETE", f"/api/kernels/{kernel_id}", headers={"Authorization": f"Bearer {TOKEN}"})


def outputs(cell: nbformat.NotebookNode) -> dict[str, str]:
    """MIME type to text of all that a cell shows."""
    shown: dict[str, str] = {}
    for output in cell.outputs:
        shown |= output.get("data", {})
        if "text" in output:
            shown["stream"] = shown.get("stream", "") + output.text
    return shown


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(jupyter, path):
    notebook = run(jupyter, nbformat.read(path, as_version=4))
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))


def test_the_quickstart_shows_an_answer_a_table_and_a_plot(jupyter):
    (path,) = [path for path in NOTEBOOKS if path.stem == "01-quickstart"]
    notebook = run(jupyter, nbformat.read(path, as_version=4))
    cells = [(cell.source, outputs(cell)) for cell in notebook.cells if cell.cell_type == "code"]
    listed = next(shown for source, shown in cells if source.startswith("%ollama list"))
    assert "smollm2:135m" in listed["text/html"]
    answered = next(shown for source, shown in cells if source.startswith("%%ollama chat"))
    assert len(answered["text/markdown"].split()) > 3
    timed = next(shown for source, shown in cells if source.startswith("timings ="))
    assert "tokens" in timed["text/html"]
    assert any("image/png" in shown for _, shown in cells)


def test_the_notebook_about_tools_shows_calls_of_its_functions(jupyter):
    (path,) = [path for path in NOTEBOOKS if path.stem == "02-templates-and-tools"]
    notebook = run(jupyter, nbformat.read(path, as_version=4))
    cells = [(cell.source, outputs(cell)) for cell in notebook.cells if cell.cell_type == "code"]
    made = next(shown for source, shown in cells if source.startswith("TEMPLATE"))
    assert "tools" in made["text/plain"]
    table = next(shown for source, shown in cells if source.startswith("import pandas"))
    assert table["text/html"].count("{'") == 5, "five calls with arguments"
    dropped = next(shown for source, shown in cells if source.startswith("chat ="))
    assert "did not fit into the context" in dropped["text/plain"]


def test_a_kernel_finds_its_own_server_without_being_told(jupyter):
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("import os, ollama_nb; print(os.environ['OLLAMA_NB_ADDRESS'])")]
    )
    assert outputs(run(jupyter, notebook).cells[0])["stream"].strip() == jupyter.announced()
