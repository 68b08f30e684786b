from __future__ import annotations

import pytest

from ollama_nb.prompt.tools.choice import choose_tools
from ollama_nb.wire.errors import BadRequestError

ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
NOW = {"type": "function", "function": {"name": "now"}}
TOOLS = [ADD, NOW]


@pytest.mark.parametrize(
    ("choice", "offered", "demanded"),
    [
        (None, TOOLS, []),
        ("auto", TOOLS, []),
        ("none", [], []),
        ("required", TOOLS, TOOLS),
        ({"type": "function", "function": {"name": "now"}}, TOOLS, [NOW]),
        ({"function": {"name": "add"}}, TOOLS, [ADD]),
    ],
    ids=["not said", "auto", "none", "required", "one of them", "without a type"],
)
def test_a_choice_says_what_is_offered_and_what_is_demanded(choice, offered, demanded):
    assert choose_tools(TOOLS, choice) == (offered, demanded)


@pytest.mark.parametrize(
    ("tools", "choice", "text"),
    [
        ([], "required", "there are no tools"),
        (TOOLS, {"function": {"name": "sub"}}, "not among the tools: sub"),
        (TOOLS, "always", "invalid tool_choice"),
        (TOOLS, {"function": "add"}, "invalid tool_choice"),
        (TOOLS, 1, "invalid tool_choice"),
        (TOOLS, ["required"], "invalid tool_choice"),
        ([{"type": "function"}], None, "no function name"),
        ([{"type": "function", "function": {"name": ""}}], "auto", "no function name"),
        ([{"function": "add"}], None, "no function name"),
    ],
)
def test_what_cannot_be_is_refused(tools, choice, text):
    with pytest.raises(BadRequestError, match=text) as caught:
        choose_tools(tools, choice)
    assert caught.value.hint
