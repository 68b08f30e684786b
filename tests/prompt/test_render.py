from __future__ import annotations

import pytest

from ollama_nb.gguf.reader import read_header
from ollama_nb.prompt.jinja import ChatTemplate
from ollama_nb.prompt.render import chat_messages, generate_messages, render_prompt
from ollama_nb.wire.native import Message


def said(*pairs):
    return [Message(role=role, content=content) for role, content in pairs]


@pytest.fixture(scope="module")
def chatml(sample_gguf):
    """SmolLM2's own template, as its file has it."""
    source = read_header(sample_gguf).metadata["tokenizer.chat_template"]
    return ChatTemplate(source, bos="<|im_start|>", eos="<|im_end|>")


OWN_SYSTEM = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"


CONVERSATIONS = {
    "own system": (
        said(("user", "Hello!")),
        OWN_SYSTEM + "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n",
    ),
    "given system": (
        said(("system", "Be brief."), ("user", "Hello!")),
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n",
    ),
    "several turns": (
        said(("system", "Be brief."), ("user", "1+1?"), ("assistant", "2"), ("user", "Sure?")),
        """<|im_start|>system
Be brief.<|im_end|>
<|im_start|>user
1+1?<|im_end|>
<|im_start|>assistant
2<|im_end|>
<|im_start|>user
Sure?<|im_end|>
<|im_start|>assistant
""",
    ),
    "same role twice": (
        said(("user", "a"), ("user", "b <&> 'ü'\n\n")),
        OWN_SYSTEM
        + "<|im_start|>user\na<|im_end|>\n<|im_start|>user\nb <&> 'ü'\n\n<|im_end|>\n<|im_start|>assistant\n",
    ),
    "unknown role": (
        said(("narrator", "It rains.")),
        OWN_SYSTEM + "<|im_start|>narrator\nIt rains.<|im_end|>\n<|im_start|>assistant\n",
    ),
}


@pytest.mark.parametrize(("conversation", "text"), CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_smollm2_speaks_chatml(chatml, conversation, text):
    assert render_prompt(chatml, conversation, adds_bos=False) == text


HISTORY = said(("user", "before"), ("assistant", "yes"))


@pytest.mark.parametrize(
    ("messages", "system", "history", "expected"),
    [
        (said(("user", "u")), "", [], said(("user", "u"))),
        (said(("user", "u")), "S", [], said(("system", "S"), ("user", "u"))),
        (said(("system", "own"), ("user", "u")), "S", [], said(("system", "own"), ("user", "u"))),
        (said(("user", "u"), ("system", "late")), "S", [], said(("system", "S"), ("user", "u"), ("system", "late"))),
        (said(("user", "u")), "S", HISTORY, [*said(("system", "S")), *HISTORY, *said(("user", "u"))]),
        (said(("system", "own"), ("user", "u")), "S", HISTORY, [*HISTORY, *said(("system", "own"), ("user", "u"))]),
        ([], "S", HISTORY, HISTORY),
    ],
    ids=["plain", "model's system", "request's system wins", "only the first counts", "messages of the model",
         "both", "nothing asked"],
)  # fmt: skip
def test_a_chat_is_the_models_system_and_messages_then_the_requests(messages, system, history, expected):
    assert chat_messages(messages, system=system, history=history) == expected


def test_making_a_conversation_leaves_its_parts_as_they_were():
    messages, history = said(("user", "u")), list(HISTORY)
    chat_messages(messages, system="S", history=history)
    generate_messages("p", system="S", history=history)
    assert (messages, history) == (said(("user", "u")), HISTORY)


def test_a_prompt_is_a_conversation_with_one_question():
    assert generate_messages("p", system="", history=[]) == said(("user", "p"))
    assert generate_messages("p", system="S", history=HISTORY) == [
        *said(("system", "S")), *HISTORY, *said(("user", "p")),
    ]  # fmt: skip


WITH_BOS = ChatTemplate("{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}", bos="<s>")


@pytest.mark.parametrize(("adds_bos", "text"), [(True, "hi <s>"), (False, "<s>hi <s>")])
def test_a_bos_that_the_tokenizer_adds_is_taken_off_the_front(adds_bos, text):
    assert render_prompt(WITH_BOS, said(("user", "hi <s>")), adds_bos=adds_bos) == text


def test_only_one_bos_is_taken_off():
    template = ChatTemplate("{{ bos_token }}{{ bos_token }}x", bos="<s>")
    assert render_prompt(template, said(("user", "")), adds_bos=True) == "<s>x"


def test_a_template_without_bos_keeps_its_beginning():
    assert render_prompt(ChatTemplate("x{{ bos_token }}", bos="<s>"), [], adds_bos=True) == "x<s>"
    assert render_prompt(ChatTemplate("x"), [], adds_bos=True) == "x"


def test_without_a_template_the_contents_stand_under_each_other():
    conversation = said(("system", "S"), ("user", ""), ("user", "u"))
    assert render_prompt(None, conversation, adds_bos=True) == "S\n\nu"


def test_a_template_sees_only_the_fields_that_a_message_has():
    template = ChatTemplate("{% for m in messages %}{{ m | tojson }}\n{% endfor %}")
    bare = Message(role="user", content="")
    full = Message(role="tool", content="4", thinking="hm", tool_name="add", tool_calls=[{"function": {"name": "add"}}])
    assert render_prompt(template, [bare, full], adds_bos=False) == (
        '{"role": "user", "content": ""}\n'
        '{"role": "tool", "content": "4", "reasoning_content": "hm", '
        '"tool_calls": [{"function": {"name": "add"}}], "name": "add"}\n'
    )
