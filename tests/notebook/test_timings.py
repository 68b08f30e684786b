from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import numpy as np

from ollama_nb.cli.text import Column, Table
from ollama_nb.client.results import ChatResult, GenerateResult, Record, Timings, history
from ollama_nb.notebook.timings import COLUMNS, frame, table_frame

TIMINGS = Timings(
    total=3 * 10**9,
    load=10**9,
    prompt_eval=5 * 10**8,
    eval=10**9,
    prompt_eval_count=50,
    eval_count=40,
    first_token=16 * 10**8,
    elapsed=31 * 10**8,
)
STARTED = datetime(2025, 7, 30, 12, tzinfo=UTC)


def test_a_call_is_a_row_in_seconds_and_tokens_per_second():
    table = frame([Record(kind="chat", model="m", started=STARTED, timings=TIMINGS)])
    assert table.loc[0].to_dict() == {
        "kind": "chat",
        "model": "m",
        "started": STARTED,
        "ok": True,
        "error": None,
        "total_s": 3.0,
        "load_s": 1.0,
        "prompt_s": 0.5,
        "eval_s": 1.0,
        "first_token_s": 1.6,
        "elapsed_s": 3.1,
        "prompt_tokens": 50,
        "tokens": 40,
        "prompt_tokens_per_s": 100.0,
        "tokens_per_s": 40.0,
    }


def test_a_failed_call_has_no_speed_and_says_why():
    table = frame([Record(kind="chat", model="m", started=STARTED, timings=Timings(), error="not found")])
    assert np.isnan(table.loc[0, "tokens_per_s"])
    assert np.isnan(table.loc[0, "first_token_s"])
    assert table.loc[0, ["ok", "error"]].tolist() == [False, "not found"]


def test_kept_answers_make_the_same_table():
    answers = [
        ChatResult(text="x", model="a", timings=TIMINGS, done_reason="stop"),
        GenerateResult(text="y", model="b", timings=Timings(), done_reason="interrupted"),
    ]
    table = frame(answers)
    assert table["kind"].tolist() == ["chat", "generate"]
    assert table["ok"].tolist() == [True, False]
    assert table["started"].isna().all()


def test_a_table_without_rows_has_its_columns_and_types():
    history.clear()
    table = frame()
    assert tuple(table.columns) == COLUMNS
    assert table["tokens_per_s"].dtype == "float64"
    assert table["tokens"].dtype == "int64"
    assert str(table["started"].dtype).endswith("UTC]")


def test_a_commands_table_keeps_its_values():
    table = Table((Column("NAME", "name"), Column("MODIFIED", "modified", str)), (("m", STARTED),))
    assert table_frame(table).to_dict("records") == [{"name": "m", "modified": STARTED}]
    assert list(table_frame(Table(table.columns, ())).columns) == ["name", "modified"]


def test_the_magics_load_neither_pandas_nor_the_server():
    heavy = "'pandas', 'numpy', 'llama_cpp', 'tornado', 'ollama_nb.settings', 'ollama_nb.server', 'ollama_nb.store'"
    code = f"import sys, ollama_nb.notebook.magics; print([name for name in ({heavy}) if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
