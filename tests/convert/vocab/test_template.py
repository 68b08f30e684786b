"""Chat templates, wherever a version of transformers has put them."""

from __future__ import annotations

import json

import pytest

from ollama_nb.convert.config import Config
from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.source import Source
from ollama_nb.convert.vocab.files import TokenizerFiles
from ollama_nb.convert.vocab.template import chat_templates

KEY = "tokenizer.chat_template"


def _templates(folder, files):
    paths = {}
    for number, (name, content) in enumerate(files.items()):
        path = folder / f"file{number}"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        paths[name] = path
    source = Source(paths)
    return chat_templates(source, TokenizerFiles(source, Config({})))


def _settings(value):
    return {"tokenizer_config.json": json.dumps({"chat_template": value})}


CASES = {
    "none": ({}, {}),
    "null": (_settings(None), {}),
    "a text": (_settings("a"), {KEY: "a"}),
    "a list": (
        _settings([{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]),
        {KEY: "a", f"{KEY}.tool_use": "b"},
    ),
    "an object": (_settings({"default": "a", "rag": "b"}), {KEY: "a", f"{KEY}.rag": "b"}),
    "a file of its own": ({"chat_template.jinja": "ü"}, {KEY: "ü"}),
    "a JSON file of its own": ({"chat_template.json": '{"chat_template": "a"}'}, {KEY: "a"}),
    "the file comes first": (
        {**_settings("a"), "chat_template.json": '{"chat_template": "b"}', "chat_template.jinja": "c"},
        {KEY: "c"},
    ),
    "further files": (
        {"chat_template.jinja": "a", "additional_chat_templates/rag.jinja": "b", "other/x.jinja": "c"},
        {KEY: "a", f"{KEY}.rag": "b"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_template_is_found(name, tmp_path):
    files, expected = CASES[name]
    assert _templates(tmp_path, files) == expected


@pytest.mark.parametrize(
    "files",
    [
        _settings(7),
        _settings(["a"]),
        _settings([{"name": "default"}]),
        _settings([{"name": "../x", "template": "a"}]),
        _settings({"a b": "a"}),
        {"chat_template.jinja": b"\xff"},
        {"chat_template.jinja": b"a" * (5 << 20)},
        {"chat_template.json": "["},
        {"chat_template.json": '{"chat_template": {"default": 1}}'},
    ],
)
def test_what_is_no_template_is_refused(files, tmp_path):
    with pytest.raises(ConvertError):
        _templates(tmp_path, files)
