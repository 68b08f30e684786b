"""What becomes of a model's text on its way to the responses.

The model's process is a script here, since no small model thinks and calls tools by itself; everything else is real:
the store, the templates, the parsers.
"""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace

import pytest
from gguf_files import gguf_bytes
from templates import CHATML, THINKING, TOOLS

from ollama_nb.runner.messages import Finish, Piece
from ollama_nb.service import generate
from ollama_nb.store.drafts import ModelDraft
from ollama_nb.store.models import ModelStore
from ollama_nb.wire.errors import BadRequestError
from ollama_nb.wire.names import parse_name
from ollama_nb.wire.native import ChatRequest, GenerateRequest, Message

TOOLBOX = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Paris"}}</tool_call>'
HARMONY = (
    "{{ range .Messages }}<|start|>{{ .Role }}<|channel|>final<|message|>{{ .Content }}{{ end }}<|start|>assistant"
)


class ScriptedChild:
    """Says given pieces whatever it is asked, and keeps what it was asked; a token is a character."""

    def __init__(self, pieces, num_ctx=4096):
        self.info = SimpleNamespace(num_ctx=num_ctx, adds_bos=False)
        self.pieces = pieces
        self.frames = []
        self.counted = 0

    async def generate(self, request):
        self.frames.append(request(1))
        for piece in self.pieces:
            yield Piece(1, piece)
        yield Finish(id=1, reason="stop", prompt_count=1, cached_count=0, prompt_duration=1, eval_count=1,
                     eval_duration=1)  # fmt: skip

    async def tokenize(self, text):
        self.counted += 1
        return list(map(ord, text))


class ScriptedScheduler:
    def __init__(self, child):
        self.child = child

    @contextlib.asynccontextmanager
    async def lease(self, spec, keep_alive):
        yield SimpleNamespace(child=self.child)


@pytest.fixture
def runtime(tmp_path):
    """A runtime whose store has a model of a template and family of the test's choice."""

    def make(pieces, template=TOOLS + THINKING, family="llama", num_ctx=4096):
        store = ModelStore(tmp_path)
        store.open()
        digest, _, _ = store.blobs.put(gguf_bytes({"general.architecture": family}))
        draft = ModelDraft.from_gguf({"m.gguf": digest}, store.blobs, lambda _: None).apply(template=template)
        store.create(parse_name("m"), draft, lambda _: None)
        child = ScriptedChild(pieces, num_ctx)
        settings = SimpleNamespace(context_length=4096, kv_cache_type="f16")
        return SimpleNamespace(store=store, settings=settings, scheduler=ScriptedScheduler(child), child=child)

    return make


def collected(responses):
    async def collect():
        return [response async for response in responses]

    return asyncio.run(collect())


def chatted(runtime, **fields):
    messages = fields.pop("messages", [Message(role="user", content="?")])
    return collected(generate.chat(runtime, ChatRequest(model="m", messages=messages, **fields)))


def brief(responses):
    """Content, thinking and names of calls of each response."""
    return [
        (r.message.content, r.message.thinking, [call.function.name for call in r.message.tool_calls])
        for r in responses
    ]


def test_thinking_content_and_calls_go_their_own_ways(runtime):
    pieces = ["<th", "ink>\nwell", " now</think>\n\nLet me ", "look.<tool", '_call>{"name": "weather", "argu']
    pieces += ['ments": {"city": "Paris"}}', "</tool_call>"]
    *parts, last = chatted(runtime(pieces), tools=TOOLBOX, think=True)
    assert brief(parts) == [
        ("", "well", []),
        ("Let me ", " now", []),
        ("look.", "", []),
        ("", "", ["weather"]),
    ]
    assert (last.done, last.done_reason, brief([last])) == (True, "stop", [("", "", [])])


def test_content_and_calls_of_one_step_are_both_said_and_calls_are_numbered(runtime):
    (part, last) = chatted(runtime([f"Both: {CALL}\n{CALL}"]), tools=TOOLBOX)
    assert brief([part]) == [("Both: ", "", ["weather", "weather"])]
    assert [call.function.index for call in part.message.tool_calls] == [0, 1]
    assert part.message.tool_calls[0].id != part.message.tool_calls[1].id
    assert last.done


def test_what_was_held_back_comes_before_the_final_response(runtime):
    *parts, last = chatted(runtime(['Done <tool_call>{"name": "nobody"']), tools=TOOLBOX)
    assert "".join(part.message.content for part in parts) == 'Done <tool_call>{"name": "nobody"'
    assert last.message.content == ""
    *parts, last = chatted(runtime(["<thi"]), think=True)
    assert brief(parts) == [("", "<thi", [])], "the prompt had opened the tag"


def test_tags_that_nobody_asked_about_stay_in_the_content(runtime):
    text = f"<think>a</think>{CALL}"
    *parts, _ = chatted(runtime([text]))
    assert brief(parts) == [(text, "", [])]


def test_a_single_response_has_all_of_it(runtime):
    request = ChatRequest(model="m", messages=[Message(role="user", content="?")], tools=TOOLBOX, think=True)
    pieces = ["<think>a", "b</think>c", f"d{CALL}", CALL]
    single = asyncio.run(generate.collect_chat(generate.chat(runtime(pieces), request)))
    assert brief([single]) == [("cd", "ab", ["weather", "weather"])]
    assert single.done


def test_channels_are_read_without_tools_and_without_think(runtime):
    text = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hi"
    *parts, _ = chatted(runtime([text], template=HARMONY))
    assert brief(parts) == [("Hi", "hm", [])]


def test_a_demanded_call_begins_in_the_prompt_and_is_bound_by_a_grammar(runtime):
    running = runtime(['{"name": "weather", "arguments": {}}'])
    *parts, _ = chatted(running, tools=TOOLBOX, tool_choice="required")
    (frame,) = running.child.frames
    assert frame.prompt.rstrip().endswith("<tool_call>")
    assert "weather" in frame.grammar
    assert brief(parts) == [("", "", ["weather"])]


def test_a_free_answer_is_bound_by_nothing(runtime):
    running = runtime(["x"])
    chatted(running, tools=TOOLBOX)
    assert running.child.frames[0].grammar == ""


def test_a_model_that_thinks_is_not_left_thinking_before_a_demanded_call(runtime):
    history = "{{ range .Messages }}<think>{{ .Thinking }}</think>{{ .Content }}{{ .ToolCalls }}{{ end }}"
    always = history + "{{ .Tools }}<think>\n"
    running = runtime(['{"name": "weather", "arguments": {}}'], template=always)
    chatted(running, tools=TOOLBOX, tool_choice="required")
    assert "<think>\n\n</think>" in running.child.frames[0].prompt


def test_a_generate_has_a_line_for_every_piece_also_for_those_held_back(runtime):
    running = runtime(["<th", "ink>a</think>", "b"])
    request = GenerateRequest(model="m", prompt="?", think=True)
    *parts, last = collected(generate.generate(running, request))
    assert [(part.response, part.thinking) for part in parts] == [("", ""), ("", "a"), ("b", "")]
    said = running.child.frames[0].prompt + "<think>a</think>b"
    assert "".join(map(chr, last.context)) == said, "the context has the text as the model wrote it"


@pytest.mark.parametrize(("family", "hint"), [("qwen3", True), ("llama", False)])
def test_old_models_of_thinking_families_are_to_be_pulled_again(runtime, family, hint):
    with pytest.raises(BadRequestError) as caught:
        chatted(runtime([], template="{{ .Prompt }}", family=family), think=True)
    assert caught.value.message.startswith("registry.ollama.ai/library/m:latest does not support thinking")
    assert ("Pull the model again" in caught.value.message) == hint


def test_answers_of_thinking_families_lose_their_old_thinking(runtime):
    old = "<think>long</think>short"
    said = [("user", "1"), ("assistant", old), ("user", "2")]
    messages = [Message(role=role, content=content) for role, content in said]
    for family, kept in (("qwen3", False), ("llama", True)):
        running = runtime(["x"], family=family)
        chatted(running, messages=messages)
        assert ("long" in running.child.frames[0].prompt) == kept


def test_a_forced_call_that_is_cut_short_shows_only_what_the_model_wrote(runtime):
    *parts, last = chatted(runtime(['{"na']), tools=TOOLBOX, tool_choice="required")
    assert [part for part in brief(parts) if any(part)] == [('{"na', "", [])]
    assert last.done


def test_stop_texts_do_not_end_a_forced_call(runtime):
    running = runtime(['{"name": "weather", "arguments": {}}'])
    chatted(running, tools=TOOLBOX, tool_choice="required", options={"stop": ["}"]})
    chatted(running, tools=TOOLBOX, options={"stop": ["}"]})
    assert [frame.stop for frame in running.child.frames] == [(), ("}",)]


ALTERNATING = (
    "{{ range .Messages }}<{{ .Role }}>{{ .Content }}{{ end }}"
    '{{ if ne (index .Messages 0).Role "user" }}{{ index .Messages 9999 }}{{ end }}'
)


@pytest.mark.parametrize("template", [CHATML, ALTERNATING], ids=["any beginning", "a question first"])
@pytest.mark.parametrize("num_ctx", [64, 100, 333, 1000, 5000, 15_000])
def test_the_longest_rest_that_fits_is_found_without_trying_all(runtime, template, num_ctx):
    roles = ["user", "assistant"]
    messages = [Message(role=roles[n % 2], content=f"message {n}") for n in range(1001)]
    running = runtime(["x"], template=template, num_ctx=num_ctx)
    *_, last = chatted(running, messages=messages)
    dropped = last.prompt_dropped_messages
    counted = running.child.counted
    prompt = running.child.frames[0].prompt
    assert f"message {dropped}<" in prompt
    assert f"message {dropped - 1}<" not in prompt
    assert len(prompt) <= num_ctx
    # The next longer rest that the template takes would not have fitted.
    (frame,) = _frames_of(runtime, template, messages[dropped - (1 if template is CHATML else 2) :])
    assert len(frame.prompt) > num_ctx
    assert counted < 40


def _frames_of(runtime, template, messages):
    running = runtime(["x"], template=template, num_ctx=10**6)
    chatted(running, messages=messages)
    return running.child.frames
