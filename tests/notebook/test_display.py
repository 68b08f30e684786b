from __future__ import annotations

import pytest

from ollama_nb.notebook import display
from ollama_nb.notebook.display import LiveMarkdown, NotebookSink, PlainText, TextSink, TextStream


class Page:
    """Stands for the notebook's page: what each display has shown, in order."""

    def __init__(self):
        self.shown = []

    def display(self, bundle, *, raw):
        assert raw
        self.shown.append(bundle)

    update = display


@pytest.fixture
def page(monkeypatch):
    page = Page()
    monkeypatch.setattr(display, "DisplayHandle", lambda: page)
    return page


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_the_first_words_appear_at_once_and_the_rest_ten_times_a_second(page):
    clock = Clock()
    view = LiveMarkdown(clock)
    for tick in range(100):  # a token every 10 ms
        clock.now = tick / 100
        view.add(f"{tick} ")
    assert page.shown[0]["text/markdown"] == "0 "
    assert 9 <= len(page.shown) <= 11
    view.finish()
    assert page.shown[-1]["text/markdown"] == "".join(f"{tick} " for tick in range(100))


def test_what_is_shown_already_is_not_shown_again(page):
    view = LiveMarkdown(Clock())
    view.add("all")
    view.finish()
    assert page.shown == [{"text/markdown": "all", "text/plain": "all"}]


def test_thinking_is_open_while_it_lasts_and_folded_when_the_answer_begins(page):
    clock = Clock()
    view = LiveMarkdown(clock)
    view.add("", "Let me see")
    clock.now = 1.0
    view.add("Yes.")
    assert page.shown[0]["text/markdown"].startswith("<details open><summary>Thinking</summary>\n\nLet me see\n")
    assert page.shown[1]["text/markdown"] == (
        "<details><summary>Thinking</summary>\n\nLet me see\n\n</details>\n\nYes."
    )
    assert page.shown[1]["text/plain"] == "Thinking...\nLet me see\n...done thinking.\n\nYes."


def test_in_a_terminal_the_answer_is_text_with_the_thinking_marked(capsys):
    view = TextStream()
    for text, thinking in (("", "Let me "), ("", "see"), ("Yes", ""), (".", "")):
        view.add(text, thinking)
    view.finish()
    assert capsys.readouterr().out == "Thinking...\nLet me see\n...done thinking.\n\nYes.\n"


def test_in_a_notebook_steps_grow_in_one_display(page):
    with NotebookSink(Clock()) as sink:
        sink.status("gathering")
        for done in range(1, 5):
            sink.progress("copying", done, 4)
        sink.status("success")
    assert page.shown[-1]["text/plain"] == f"gathering\ncopying  [{'#' * 20}] 100%  4 B\nsuccess"
    assert len(page.shown) == 2


def test_several_transfers_are_drawn_ten_times_a_second_together(page):
    clock = Clock()
    with NotebookSink(clock) as sink:
        for tick in range(1, 101):  # four transfers, each told every 10 ms
            clock.now = tick / 100
            for name in "abcd":
                sink.progress(name, tick, 100)
    assert 9 <= len(page.shown) <= 12
    assert [line.split()[-3:] for line in page.shown[-1]["text/plain"].splitlines()] == [["100%", "100", "B"]] * 4


def test_when_all_is_done_one_line_is_left(page):
    with NotebookSink(Clock()) as sink:
        sink.status("pulling manifest")
        sink.progress("pulling", 1, 4)
        sink.done("pulled m: 4 B in 0.1 s")
    assert page.shown[-1] == {"text/plain": "pulled m: 4 B in 0.1 s"}


def test_what_breaks_off_leaves_its_bars_as_they_were_without_a_speed(page):
    clock = Clock()
    with pytest.raises(KeyboardInterrupt), NotebookSink(clock) as sink:
        for clock.now in (0.0, 1.0, 1.01):
            sink.progress("pulling", 10 + int(100 * clock.now), 1000)
        raise KeyboardInterrupt
    assert page.shown[-2]["text/plain"].split("% ")[1].split("  ") == [" 110 B of 1 KB", "100 B/s", "9 s left"]
    assert page.shown[-1]["text/plain"].split("% ")[1].split("  ") == [" 111 B of 1 KB"]


def test_in_a_terminal_each_step_is_one_line(capsys):
    sink = TextSink()
    sink.status("gathering")
    sink.progress("copying", 1, 2)
    sink.progress("copying", 2, 2)
    sink.progress("reading", 1, 2)
    sink.progress("copying", 2, 2)
    sink.line("kept")
    sink.warn("careful")
    sink.done("done")
    assert capsys.readouterr() == ("gathering\ncopying\nreading\nkept\ndone\n", "careful\n")


def test_kept_lines_and_warnings_are_printed_in_a_notebook_too(page, capsys):
    NotebookSink(Clock()).line("deleted 'm'")
    NotebookSink(Clock()).warn("careful")
    assert capsys.readouterr() == ("deleted 'm'\n", "careful\n")
    assert page.shown == []


def test_a_plain_text_is_a_text():
    assert PlainText("x") == "x"
