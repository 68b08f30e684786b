from __future__ import annotations

import pytest

from ollama_nb.prompt.conversation import (
    chat_messages,
    generate_messages,
    plain,
    rest_from,
    rest_starts,
    tag_images,
    untagged,
    without_old_thinking,
)
from ollama_nb.wire.native import CalledFunction, CallMessage, Message


def said(*pairs):
    return [Message(role=role, content=content) for role, content in pairs]


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
def test_a_model_s_own_messages_come_first(messages, system, history, expected):
    assert chat_messages(messages, system=system, history=history) == expected


def test_a_prompt_is_a_conversation_of_system_history_images_and_itself():
    messages = generate_messages("p", system="S", history=HISTORY, images=["aQ==", "aQ=="])
    tags = said(("user", "[img-0]"), ("user", "[img-1]"))
    assert messages == [*said(("system", "S")), *HISTORY, *tags, *said(("user", "p"))]
    assert generate_messages("p", system="", history=[]) == said(("user", "p"))


def test_the_last_message_and_all_system_messages_are_always_kept():
    chat = said(("system", "s"), ("user", "1"), ("assistant", "2"), ("system", "t"), ("user", "3"))
    kept = [[message.content for message in rest_from(chat, start)] for start in rest_starts(chat)]
    assert kept == [["s", "t", "3"], ["s", "2", "t", "3"], ["s", "1", "2", "t", "3"]]


def test_a_single_message_has_no_shorter_rest():
    assert rest_starts(said(("user", "1"))) == []


def test_images_are_tagged_in_order_in_place_or_in_front():
    messages = [
        Message(role="user", content="what is [img] and [img]?", images=["a", "b"]),
        Message(role="user", content="and this?", images=["c", "d"]),
        Message(role="user", content="one [img]", images=["e", "f"]),
        Message(role="user", content="[img] stays"),
    ]
    assert [message.content for message in tag_images(messages)] == [
        "what is [img-0] and [img-1]?",
        "[img-2][img-3]and this?",
        "[img-5]one [img-4]",
        "[img] stays",
    ]
    assert messages[1].content == "and this?"


def test_a_prompt_without_its_tags_is_the_text_alone():
    assert untagged("[img-0][img-12]what is [img]? [img-x] [img-1]") == "what is [img]? [img-x] "


def test_thinking_of_answers_before_the_last_question_is_dropped():
    thought = "<think>\nhm\n</think>\n\nyes"
    chat = said(("user", "1"), ("assistant", thought), ("user", thought), ("assistant", thought))
    assert [message.content for message in without_old_thinking(chat)] == ["1", "yes", thought, thought]


def test_plain_messages_have_role_and_content_and_what_else_was_said():
    call = CallMessage(function=CalledFunction(name="f", arguments={"x": 1}))
    messages = [Message(), Message(role="assistant", tool_calls=[call]), Message(role="tool", tool_name="f")]
    assert plain(messages) == [
        {"role": "", "content": ""},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"index": 0, "name": "f",
                                                                           "arguments": {"x": 1}}}]},
        {"role": "tool", "content": "", "tool_name": "f"},
    ]  # fmt: skip
