from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ollama_nb.client.results import ChatResult, History, Record, Timings


def record(model):
    return Record(kind="chat", model=model, started=datetime.now(UTC), timings=Timings())


def test_timings_are_kept_as_sent_and_read_in_seconds():
    timings = Timings.read(
        {"total_duration": 3_000_000_000, "load_duration": 500_000_000, "eval_count": 30, "eval_duration": 2 * 10**9},
        first_token=250_000_000,
        elapsed=3_100_000_000,
    )
    assert timings.total == 3_000_000_000
    assert (timings.total_seconds, timings.load_seconds, timings.eval_seconds) == (3.0, 0.5, 2.0)
    assert (timings.time_to_first_token, timings.elapsed_seconds) == (0.25, 3.1)
    assert timings.tokens_per_second == 15.0


def test_speeds_that_were_not_measured_are_none_rather_than_a_division_by_zero():
    timings = Timings.read({"eval_count": 3, "eval_duration": None}, first_token=None, elapsed=0)
    assert (timings.tokens_per_second, timings.prompt_tokens_per_second, timings.time_to_first_token) == (None,) * 3


def test_an_answer_prints_and_shows_as_its_text():
    answer = ChatResult(text="**Hi**", model="m", timings=Timings())
    assert f"{answer}" == answer._repr_markdown_() == "**Hi**"


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ({}, ""),
        (
            {"prompt_dropped_messages": 12, "prompt_dropped_count": 340},
            "the oldest 12 messages (340 tokens) did not fit into the context and were left out",
        ),
        (
            {"prompt_dropped_messages": 1, "prompt_dropped_count": 34},
            "the oldest message (34 tokens) did not fit into the context and was left out",
        ),
        (
            {"prompt_dropped_count": 340},
            "340 tokens of the prompt did not fit into the context and were left out",
        ),
    ],
)
def test_an_answer_says_what_of_the_prompt_was_left_out(raw, sentence):
    assert ChatResult(text="", model="m", timings=Timings(), raw=raw).dropped == sentence


def test_the_history_forgets_the_oldest_beyond_its_limit():
    history = History(limit=2)
    for model in "abc":
        history.append(record(model))
    assert [entry.model for entry in history] == ["b", "c"]
    assert (len(history), history[-1].model, [entry.model for entry in history[:1]]) == (2, "c", ["b"])
    history.clear()
    assert not history


def test_the_history_may_grow_while_it_is_read():
    history = History()
    history.append(record("a"))
    for _ in history:
        history.append(record("b"))
    assert len(history) == 2


@pytest.mark.parametrize(("error", "ok"), [(None, True), ("interrupted", False)])
def test_a_record_is_ok_without_an_error(error, ok):
    assert Record(kind="chat", model="m", started=datetime.now(UTC), timings=Timings(), error=error).ok is ok
