from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.prompt.gotemplate import Template
from ollama_nb.prompt.thinking import ThinkingParser, ends_in_opening, jinja_thinking_tags, thinking_tags
from ollama_nb.prompt.tools.call import Delta

THINK = ("<think>", "</think>")


def read(pieces, **options) -> Delta:
    parser = ThinkingParser(*THINK, **options)
    return sum((parser.feed(piece) for piece in pieces), Delta()) + parser.close()


@pytest.mark.parametrize(
    ("text", "thinking", "content"),
    [
        ("<think>why</think>because", "why", "because"),
        ("<think>\n why \n</think>\n\nbecause\n", "why \n", "because\n"),
        (" \n <think>why</think>because", "why", "because"),
        ("because", "", "because"),
        ("  because", "", "  because"),
        (" \n", "", " \n"),
        ("", "", ""),
        ("<think>why", "why", ""),
        ("<think>why</thi", "why</thi", ""),
        ("<think>why</think>", "why", ""),
        ("<think></think>because", "", "because"),
        ("<thi", "", "<thi"),
        (" <thinker", "", " <thinker"),
        ("so <think>why</think>", "", "so <think>why</think>"),
        ("<think>a</think>b</think>c", "a", "b</think>c"),
        ("<think>a</think>b<think>c</think>d", "a", "b<think>c</think>d"),
        ("<think>a < b </ c </think>d", "a < b </ c ", "d"),
        ("<think>a</</think>b", "a</", "b"),
        ("<think><think>a</think>b", "<think>a", "b"),
    ],
)
def test_an_answer_is_told_apart_whole_and_letter_by_letter(text, thinking, content):
    expected = Delta(content=content, thinking=thinking)
    assert read([text]) == expected
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "thinking", "content"),
    [
        ("why</think>because", "why", "because"),
        ("\n why</think>\nbecause", "why", "because"),
        ("\n<think>\nwhy</think>because", "why", "because"),
        ("<thi", "<thi", ""),
        ("<thicket", "<thicket", ""),
        ("</think>because", "", "because"),
        ("why <think> not</think>", "why <think> not", ""),
    ],
)
def test_an_answer_to_a_prompt_that_opened_the_thinking_starts_inside_it(text, thinking, content):
    expected = Delta(content=content, thinking=thinking)
    assert read([text], started=True) == expected
    assert read(text, started=True) == expected


def test_every_piece_comes_out_as_soon_as_it_is_decided_and_once():
    parser = ThinkingParser(*THINK)
    steps = [
        (" ", Delta()),
        ("<thi", Delta()),
        ("nk>\n", Delta()),
        ("so ", Delta(thinking="so ")),
        ("it </", Delta(thinking="it ")),
        ("b> is </th", Delta(thinking="</b> is ")),
        ("ink>", Delta()),
        ("\n", Delta()),
        (" yes", Delta(content="yes")),
        (" it is", Delta(content=" it is")),
    ]
    assert [(text, parser.feed(text)) for text, _ in steps] == steps
    assert not parser.close()


def test_an_answer_without_thinking_streams_from_its_first_word():
    parser = ThinkingParser(*THINK)
    assert parser.feed("a") == Delta(content="a")
    assert parser.feed("b") == Delta(content="b")


def test_closing_twice_brings_nothing_more():
    parser = ThinkingParser(*THINK)
    parser.feed("<th")
    assert parser.close() == Delta(content="<th")
    assert not parser.close()


def in_messages(body):
    return "{{ range .Messages }}" + body + "{{ end }}"


AB = ("<a>", "</a>")
PARTS = ["<think>", "</think>", "<", "</", "thi", "nk>", " ", "\n", "a", "é", ">"]
TEXTS = st.lists(st.sampled_from(PARTS), max_size=12)


@given(TEXTS, st.booleans())
def test_the_pieces_do_not_matter(pieces, started):
    text = "".join(pieces)
    assert read(pieces, started=started) == read([text], started=started) == read(text, started=started)


@given(TEXTS.map("".join).filter(lambda text: not text.lstrip().startswith("<think>")))
def test_without_thinking_the_content_is_the_text(text):
    assert read(text) == Delta(content=text)


@given(TEXTS.map("".join).filter(lambda text: "</think>" not in text))
def test_thinking_that_is_not_closed_is_all_there(text):
    assert read("<think>" + text) == Delta(thinking=text.lstrip())


@pytest.mark.parametrize(
    ("source", "tags"),
    [
        (in_messages("{{ if .Thinking }}<think>\n{{ .Thinking }}\n</think>{{ end }}"), THINK),
        ("{{ range $i, $m := .Messages }}{{ if and $.On $m.Thinking }}<a>{{ $m.Thinking }}</a>{{ end }}{{ end }}", AB),
        (in_messages("{{ if .Content }}{{ .Content }}{{ else }}<a>{{ .Thinking }}</a>{{ end }}"), AB),
        ("{{ if .Thinking }}/think{{ end }}" + in_messages("<a>{{ .Thinking }}</a>"), AB),
        (in_messages("<|user|>\n<think>{{ .Thinking }}</think>\n{{ .Content }}<|end|>"), THINK),
        (in_messages("<|assistant|>\n<think>\n{{ .Thinking }}\n</think>\n\n{{ .Content }}<|end|>"), THINK),
        (in_messages("<think>{{ with .Thinking }}{{ . }}{{ end }}</think>"), THINK),
        (in_messages("<think>{{ .Thinking }}</think>") + in_messages("<a>{{ .Thinking }}</a>"), AB),
        (in_messages("<a>{{ .Thinking }}"), None),
        (in_messages("{{ .Thinking }}</a>"), None),
        (in_messages("{{ .Thinking }}"), None),
        ("<think>{{ .Thinking }}</think>", None),
        ("{{ range .Tools }}<think>{{ .Thinking }}</think>{{ end }}", None),
        (in_messages("{{ range .Parts }}<a>{{ .Thinking }}</a>{{ end }}"), None),
        (in_messages("<think>{{ .Content }}</think>"), None),
        ("", None),
    ],
)
def test_the_tags_of_a_go_template_stand_around_the_thinking_of_its_messages(source, tags):
    assert thinking_tags(Template(source).root) == tags


@pytest.mark.parametrize(
    ("source", "tags"),
    [
        ("{% if m.reasoning %}<think>\n{{ m.reasoning }}\n</think>{% endif %}", THINK),
        ("{% set content = content.split('</think>')[-1] %}", THINK),
        ("{{ '<|START_THINKING|>' }}{{ x }}{{ '<|END_THINKING|>' }}", ("<|START_THINKING|>", "<|END_THINKING|>")),
        ("[THINK]{{ x }}[/THINK]", ("[THINK]", "[/THINK]")),
        ("<seed:think>{{ x }}</seed:think>", ("<seed:think>", "</seed:think>")),
        ("{{ messages[0].content }} I think", None),
    ],
)
def test_the_tags_of_a_jinja_template_are_those_it_speaks_of(source, tags):
    assert jinja_thinking_tags(source) == tags


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [
        ("<|assistant|>\n<think>", True),
        ("<|assistant|>\n<think>\n\n", True),
        ("<think>\n\n</think>\n\n", False),
        ("<|assistant|>", False),
        ("", False),
    ],
)
def test_a_prompt_opens_the_thinking_where_it_ends_in_the_tag(prompt, opened):
    assert ends_in_opening(prompt, "<think>") is opened


def test_no_prompt_ends_in_an_opening_that_is_empty():
    assert not ends_in_opening("", "")
