from __future__ import annotations

import pytest
from templates import CHATML, INSERT, THINKING, TOOLS

from ollama_nb.gguf.reader import read_header
from ollama_nb.prompt.driver import GoDriver, JinjaDriver, go_driver
from ollama_nb.prompt.jinja import ChatTemplate
from ollama_nb.wire.errors import BadRequestError, OllamaError

HELLO = [{"role": "user", "content": "Hello!"}]
WEATHER = {"type": "function", "function": {"name": "weather", "description": "", "parameters": {"type": "object"}}}

JINJA_TOOLS = (
    "{% if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<tool_call>"
    "{{ {'name': call.function.name, 'arguments': call.function.arguments} | tojson }}</tool_call>{% endfor %}"
    "{% if m.name %}[{{ m.name }}]{% endif %}{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>"
    "{% endif %}{% endfor %}{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    "{{ reasoning_effort }}"
)


def jinja(source, **tokens):
    return JinjaDriver(ChatTemplate(source, **tokens))


@pytest.mark.parametrize(
    ("driver", "abilities"),
    [
        (GoDriver("{{ .Prompt }}"), ()),
        (GoDriver(CHATML), ()),
        (GoDriver(TOOLS), ("tools",)),
        (GoDriver(THINKING), ("thinking",)),
        (GoDriver(INSERT), ("insert",)),
        (GoDriver(INSERT + TOOLS + THINKING), ("tools", "insert", "thinking")),
        (jinja("{% for m in messages %}{{ m.content }}{% endfor %}"), ()),
        (jinja(JINJA_TOOLS), ("tools", "thinking")),
        (jinja("<|channel|>analysis<|message|>{{ messages[0].content }}<|end|>{{ tools }}"), ("tools", "thinking")),
        (jinja("{# tools #}{% set tools = [] %}{{ tools }}"), ()),
    ],
)
def test_abilities_are_told_by_the_template(driver, abilities):
    assert driver.abilities == abilities


def test_a_template_that_does_not_parse_is_an_error_for_users():
    with pytest.raises(OllamaError, match=r"unclosed|unexpected"):
        GoDriver("{{ if .Prompt")
    assert go_driver(CHATML) is go_driver(CHATML)


def test_a_template_that_does_not_run_is_an_error_for_users():
    with pytest.raises(OllamaError, match="X"):
        GoDriver("{{ .Prompt.X }}").chat(HELLO)
    with pytest.raises(OllamaError, match="X"):
        GoDriver("{{ if .Suffix }}{{ .Prompt.X }}{{ end }}").insert("a", "b")


def test_a_go_template_is_given_messages_and_tools():
    text = GoDriver(TOOLS).chat([{"role": "system", "content": "S"}, *HELLO], tools=[WEATHER])
    tool = (
        '{"type":"function","function":{"name":"weather","description":"",'
        '"parameters":{"type":"object","required":null,"properties":null}}}'
    )
    assert f"<tools>\n{tool}\n</tools>" in text
    assert text.startswith("<|im_start|>system\nS\n\nYou can call")
    assert text.endswith("<|im_end|>\n<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n")


def test_a_jinja_template_is_given_what_the_transformers_library_gives():
    call = {"id": "call_1", "function": {"index": 0, "name": "weather", "arguments": {"city": "Köln <1>"}}}
    messages = [
        *HELLO,
        {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [call]},
        {"role": "tool", "content": "22", "tool_name": "weather"},
    ]
    text = jinja(JINJA_TOOLS).chat(messages, tools=[WEATHER], think=False)
    assert text == (
        '<tools>{"type": "function", "function": {"name": "weather", "description": "", '
        '"parameters": {"type": "object"}}}</tools><user>Hello!<assistant>'
        '<tool_call>{"name": "weather", "arguments": {"city": "Köln <1>"}}</tool_call>'
        "<think>hm</think><tool>22[weather]<think></think>"
    )
    assert jinja(JINJA_TOOLS).chat(HELLO, think="high") == "<user>Hello!high"


def test_a_jinja_template_may_refuse_a_conversation():
    driver = jinja("{{ raise_exception('no system messages') }}")
    with pytest.raises(BadRequestError, match="no system messages"):
        driver.chat(HELLO)


def test_smollm2_speaks_chatml(sample_gguf):
    source = read_header(sample_gguf).metadata["tokenizer.chat_template"]
    driver = jinja(source, bos="<|im_start|>", eos="<|im_end|>")
    assert driver.abilities == ()
    assert driver.chat([{"role": "system", "content": "Be brief."}, *HELLO]) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_way_of_calling_is_told_by_the_template():
    assert GoDriver(TOOLS).calls.name == "hermes"
    assert jinja(JINJA_TOOLS).calls.name == "hermes"
    assert GoDriver(THINKING).thinking == ("<think>", "</think>")
    assert jinja(JINJA_TOOLS).thinking == ("<think>", "</think>")
    assert GoDriver(CHATML).thinking is None
