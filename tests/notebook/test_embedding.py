"""``embed`` on a line and over a cell: what is asked for, and the table that comes of it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from ipython_cells import run

from ollama_nb.notebook.magics import MagicError


@pytest.fixture(autouse=True)
def _three_vectors(server):
    """What the stand-in has for any texts."""
    vectors = [[0.6, 0.8], [1.0, 0.0], [0.0, -1.0]]
    server.replies["/api/embed"] = json.dumps({"model": "m", "embeddings": vectors, "prompt_eval_count": 9}).encode()


def test_every_line_of_the_cell_is_a_text(shell, server):
    table = run(shell, "%%ollama embed -m m\none line, {as} $it is\n\n  'two'  \nthree\n")
    assert server.last("/api/embed") == {"model": "m", "input": ["one line, {as} $it is", "  'two'  ", "three"]}
    assert isinstance(table, pd.DataFrame)
    assert list(table.index) == ["one line, {as} $it is", "  'two'  ", "three"]
    assert list(table.columns) == [0, 1]
    assert table.dtypes.unique().tolist() == [np.float32]
    np.testing.assert_allclose(table @ table.T, [[1, 0.6, -0.8], [0.6, 1, 0], [-0.8, 0, 1]], atol=1e-6)


def test_the_words_of_a_line_are_texts_behind_the_model(shell, server):
    table = run(shell, "t = %ollama embed m 'A cat.' dog 'x y'\nt")
    assert server.last("/api/embed") == {"model": "m", "input": ["A cat.", "dog", "x y"]}
    assert table.index.tolist() == ["A cat.", "dog", "x y"]
    run(shell, "%ollama embed -m other a b c -d 2")
    assert server.last("/api/embed") == {"model": "other", "input": ["a", "b", "c"], "dimensions": 2}


def test_a_variable_keeps_the_table_and_a_line_says_so(shell, capsys):
    assert run(shell, "%%ollama embed m -o vectors\na\nb\nc") is None
    assert shell.user_ns["vectors"].shape == (3, 2)
    assert capsys.readouterr().out == "3 vectors of 2 numbers are in `vectors`\n"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("%ollama embed", "No model: name one"),
        ("%ollama embed m", "No text: write texts below"),
        ("%%ollama embed m\n \n\n", "No text: write texts below"),
        ("%%ollama embed -m m word\ntext", "The texts are the cell's lines"),
        ("%%ollama embed m -o 1st\ntext", "'1st' is no name for a variable"),
        ("%ollama embed m x -d 0", "0 is not in the range"),
    ],
)
def test_what_is_missing_is_said_in_a_line(shell, server, source, text):
    with pytest.raises(MagicError, match=text):
        run(shell, source)
    assert not any(path == "/api/embed" for _, path, _ in server.asked)
