"""Known formats are recognised by what a Jinja template writes, whatever it looks like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.gguf.reader import read_header
from ollama_nb.prompt.jinja import ChatTemplate
from ollama_nb.prompt.known import known_templates, recognise
from ollama_nb.prompt.render import prompt_template, render_prompt

QUESTION = {"role": "user", "content": "Why is the sky blue?"}


def turns(system, user, assistant, opening):
    """A template that says each turn by a pattern with ¶ for the content; None refuses the role."""
    parts = []
    for role, pattern in (("system", system), ("user", user), ("assistant", assistant)):
        said = "{{ raise_exception('no ' + m.role) }}" if pattern is None else pattern.replace("¶", "{{ m.content }}")
        parts.append(f"{{% {'elif' if parts else 'if'} m['role'] == '{role}' %}}{said}")
    return (
        "{{ bos_token }}{% for m in messages %}"
        + "".join(parts)
        + "{% endif %}{% endfor %}{% if add_generation_prompt %}"
        + opening
        + "{% endif %}"
    )


def marked(system, user, assistant, end):
    """A template with a mark before each turn and one behind it."""
    return turns(f"{system}¶{end}", f"{user}¶{end}", f"{assistant}¶{end}", assistant)


SYSTEM_FIRST = (
    "{%- if messages[0].role == 'system' -%}{%- set told = messages[0].content -%}{%- set rest = messages[1:] -%}"
    "{%- else -%}{%- set told = '' -%}{%- set rest = messages -%}{%- endif -%}"
)
"""For formats that say the system text inside the first question."""

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ZEPHYR = marked("<|system|>\n", "<|user|>\n", "<|assistant|>\n", "{{ eos_token }}\n")
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ m.content + eos_token + ' ' }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
LLAMA2 = (
    SYSTEM_FIRST + "{%- for m in rest -%}{%- set said = m.content -%}"
    "{%- if loop.first and told -%}{%- set said = '<<SYS>>\n' + told + '\n<</SYS>>\n\n' + said -%}{%- endif -%}"
    "{%- if m.role == 'user' -%}{{ bos_token + '[INST] ' + said | trim + ' [/INST]' }}"
    "{%- else -%}{{ ' ' + said | trim + ' ' + eos_token }}{%- endif -%}{%- endfor -%}"
)
GEMMA3 = (
    "{{ bos_token }}" + SYSTEM_FIRST + "{%- for m in rest -%}"
    "{%- set role = 'model' if m.role == 'assistant' else m.role -%}"
    "{{ '<start_of_turn>' + role + '\n' + (told + '\n\n' if loop.first and told else '') }}"
    "{{- m.content | trim }}{{ '<end_of_turn>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"
)
COMMAND_R = marked(
    *(f"<|START_OF_TURN_TOKEN|><|{role}_TOKEN|>" for role in ("SYSTEM", "USER", "CHATBOT")), "<|END_OF_TURN_TOKEN|>"
)
CODELLAMA = (
    "{{ bos_token }}{% for m in messages %}{{ 'Source: ' + m.role + '\n\n ' + m.content | trim + ' <step> ' }}"
    "{% endfor %}{{ 'Source: assistant\nDestination: user\n\n ' }}"
)
LLAMA3 = (
    "{% for m in messages %}{% set said = '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n'"
    "+ m.content | trim + '<|eot_id|>' %}{{ bos_token + said if loop.first else said }}{% endfor %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' if add_generation_prompt }}"
)
OPENCHAT = (
    "{{ bos_token }}{% for m in messages %}{{ 'GPT4 Correct ' + m.role.title() + ': ' + m.content }}"
    "{{ '<|end_of_turn|>' }}{% endfor %}{% if add_generation_prompt %}{{ 'GPT4 Correct Assistant:' }}{% endif %}"
)

FORMATS = {
    "alfred": (marked("<start_system>", "<start_user>", "<start_assistant>", "<end_message>"), "<s>", "</s>"),
    "alpaca": (turns("¶\n\n", "### Instruction:\n¶\n\n", "### Response:\n¶\n\n", "### Response:\n"), "<s>", "</s>"),
    "chatml": (CHATML, "<s>", "<|im_end|>"),
    "chatqa": (
        turns("System: ¶\n\n", "User: ¶\n\n", "Assistant: ¶\n\n", "Assistant:"),
        "<|begin_of_text|>", "<|end_of_text|>",
    ),
    "codellama-70b-instruct": (CODELLAMA, "<s>", "</s>"),
    "command-r": (COMMAND_R, "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>"),
    "falcon-instruct": (turns("System: ¶\n", "User: ¶\n", "Falcon: ¶\n", "Falcon:"), "", "<|endoftext|>"),
    "gemma-instruct": (
        turns(
            None,
            "<start_of_turn>user\n¶<end_of_turn>\n",
            "<start_of_turn>model\n¶<end_of_turn>\n",
            "<start_of_turn>model\n",
        ),
        "<bos>", "<eos>",
    ),
    "gemma3-instruct": (GEMMA3, "<bos>", "<eos>"),
    "granite-instruct": (
        turns("System:\n¶\n\n", "Question:\n¶\n\n", "Answer:\n¶\n\n", "Answer:\n"), "", "<|endoftext|>",
    ),
    "llama2-chat": (LLAMA2, "<s>", "</s>"),
    "llama3-instruct": (LLAMA3, "<|begin_of_text|>", "<|eot_id|>"),
    "magicoder": (turns("¶\n\n", "@@ Instruction\n¶\n\n", "@@ Response\n¶\n\n", "@@ Response\n"), "<s>", "</s>"),
    "mistral-instruct": (MISTRAL, "<s>", "</s>"),
    "openchat": (OPENCHAT, "<s>", "<|end_of_turn|>"),
    # This one says nothing of a system text, as the first template of that model did.
    "phi-3": (turns("", "<|user|>\n¶<|end|>\n<|assistant|>\n", "¶<|end|>\n", ""), "<s>", "<|endoftext|>"),
    "solar-instruct": (
        turns("### System:\n¶\n\n", "### User:\n¶\n\n", "### Assistant:\n¶{{ eos_token }}\n\n", "### Assistant:\n"),
        "<s>", "</s>",
    ),
    "starcoder2-instruct": (
        turns("¶\n\n", "### Instruction\n¶\n\n", "### Response\n¶{{ eos_token }}\n\n", "### Response\n"),
        "<|endoftext|>", "<|endoftext|>",
    ),
    "vicuna": (turns("¶ ", "USER: ¶ ", "ASSISTANT: ¶{{ eos_token }}", "ASSISTANT:"), "<s>", "</s>"),
    "zephyr": (ZEPHYR, "<s>", "</s>"),
}  # fmt: skip


def name_of(source, bos="<s>", eos="</s>"):
    known = recognise(source, bos=bos, eos=eos)
    return known and known.name


def test_every_known_format_is_tried_and_has_a_template_and_stop_texts():
    known = known_templates()
    assert sorted(entry.name for entry in known) == sorted(FORMATS)
    for entry in known:
        assert "messages" in prompt_template(entry.template).variables
        assert entry.stop


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_recognised_by_what_it_says(name):
    source, bos, eos = FORMATS[name]
    known = recognise(source, bos=bos, eos=eos)
    assert (known.name, known.default_system) == (name, "")


def test_the_stop_texts_come_with_the_template():
    known = recognise(CHATML)
    assert known.stop == ("<|im_start|>", "<|im_end|>")
    assert render_prompt(template=known.template, messages=[QUESTION]) == (
        "<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("name", "source", "bos", "eos"),
    [
        ("chatml", CHATML.replace("'<|im_start|>' + m", "bos_token + m"), "<|im_start|>", "<|im_end|>"),
        ("chatml", CHATML.partition("{% if add")[0], "", ""),
        ("chatml", CHATML.replace("m['content']", "m['content'].strip()"), "", ""),
        ("zephyr", ZEPHYR.replace("\n", "\n\n"), "<s>", "</s>"),
        ("zephyr", ZEPHYR.replace("{{ eos_token }}", "</s>"), "<s>", "<other>"),
        ("mistral-instruct", MISTRAL.replace("[INST] ", "[INST]"), "<s>", "</s>"),
        ("llama2-chat", LLAMA2.replace("{{ bos_token + ", "{{ "), "<s>", "</s>"),
        ("gemma-instruct", GEMMA3.replace("told + '\n\n'", "told + '\n'"), "<bos>", "<eos>"),
    ],
)
def test_tokens_white_space_and_a_missing_opening_make_no_difference(name, source, bos, eos):
    assert name_of(source, bos, eos) == name


def with_default(source, text):
    """The template with a system text that it says where the conversation has none."""
    message = "{'role': 'system', 'content': " + repr(text) + "}"
    told = "{% if messages[0].role != 'system' %}{% set messages = [" + message + "] + messages %}{% endif %}"
    return told + source


DEFAULT = "You are Ada,\n a  helpful assistant [INST]."


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"mistral-instruct", "gemma-instruct", "phi-3"}))
def test_a_default_system_text_is_found_and_handed_on(name):
    source, bos, eos = FORMATS[name]
    source = with_default(source, DEFAULT)
    known = recognise(source, bos=bos, eos=eos)
    assert (known.name, known.default_system) == (name, DEFAULT)
    system = {"role": "system", "content": known.default_system}
    jinja = ChatTemplate(source, bos=bos, eos=eos).render([QUESTION])
    assert DEFAULT in jinja
    assert DEFAULT in render_prompt(template=known.template, messages=[system, QUESTION])


def test_a_default_text_is_found_where_no_other_is_allowed():
    source = "Be exact.\n\n" + turns(None, "### Instruction\n¶\n\n", "### Response\n¶\n\n", "### Response\n")
    known = recognise(source, bos="", eos="<|endoftext|>")
    assert (known.name, known.default_system) == ("starcoder2-instruct", "Be exact.")


def test_what_is_said_beside_every_system_text_is_no_known_format():
    assert name_of("Be exact.\n" + ZEPHYR) is None


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=40))
def test_any_default_text_is_found_but_for_blanks_around_it(text):
    known = recognise(with_default(CHATML, text))
    assert (known and known.default_system) == (text.strip() or None)


@pytest.mark.parametrize(
    "source",
    [
        "",
        "{{ messages[-1].content }}",
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
        CHATML.replace("<|im_end|>", "<|end|>"),
        CHATML.replace("assistant", "model"),
        CHATML.replace("+ '<|im_end|>'", ""),
        "{{ 'Hello! ' }}" + MISTRAL,
        ZEPHYR.replace("{{ eos_token }}", "<|fin|>"),
        # The system text is repeated with every question, or the last question comes first.
        CHATML.replace("m['content']", "messages[0].content + m['content']"),
        CHATML.replace("in messages", "in messages | reverse"),
    ],
)
def test_other_formats_are_not_known(source):
    assert name_of(source) is None


@pytest.mark.parametrize(
    "addition",
    [
        "{% if tools %}{{ tools | tojson }}{% endif %}",
        "{% for m in messages %}{% if m.tool_calls %}calls{% endif %}{% endfor %}",
        "{% for m in messages %}{% if m.reasoning_content %}thoughts{% endif %}{% endfor %}",
        "{# ends with </think> #}",
        "{% if m is mapping and m.content is iterable and m.content[0].type == 'image' %}<image>{% endif %}",
        "{% if strftime_now is undefined %}today{% endif %}",
    ],
)
def test_a_template_that_can_do_more_stays_what_it_is(addition):
    assert name_of(CHATML) == "chatml"
    assert name_of(addition + CHATML) is None


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}",
        "{{ " + "(" * 5000,
        "{{ " + "9" * 5000 + " }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ undefined_thing.attribute }}",
        "{{ 1 / 0 }}",
        "{% include 'other' %}",
        "{{ raise_exception('never') }}",
        "{{ messages.append(1) }}",
        "{{ 'x' * 100000 }}" + CHATML,
        "{{ 'x' * 10000000000 }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        CHATML + " " * (1 << 16),
        "\0",
        "\ud800",
        "{% if messages[1] %}{{ 1 / 0 }}{% endif %}" + CHATML,
    ],
    ids=range(17),
)
def test_a_broken_or_hostile_template_is_not_known(source):
    assert name_of(source) is None


@given(st.text(max_size=60))
def test_no_text_makes_recognition_fail(text):
    recognise(text, bos=text[:3], eos=text[-3:])
    recognise(CHATML + text, bos=text[:3], eos=text[-3:])


def test_the_samples_own_template_is_chatml_with_a_system_text(sample_gguf):
    header = read_header(sample_gguf)
    source = header.metadata["tokenizer.chat_template"]
    known = recognise(source, bos="<|im_start|>", eos="<|im_end|>")
    assert known.name == "chatml"
    assert known.default_system == "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
