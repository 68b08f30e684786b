"""Go's ``text/template``, as far as prompt templates can see it: read, inspected, printed and run.

``Template`` is the door. A source becomes tokens (``lexer``), a tree (``parser``, ``tree``), and closures
(``evaluate``, ``blocks``) over values (``values``; those of a conversation in ``prompt_types``, made by ``data``).
Which template a model has and what goes into it is left to ``ollama_nb.prompt.render``.
"""

from __future__ import annotations

from ollama_nb.prompt.gotemplate.data import template_data
from ollama_nb.prompt.gotemplate.errors import TemplateError, TemplateRunError, TemplateSyntaxError
from ollama_nb.prompt.gotemplate.functions import Function
from ollama_nb.prompt.gotemplate.prompt_types import (
    Message,
    Messages,
    Tool,
    ToolCall,
    ToolCallFunction,
    ToolFunction,
    ToolParameters,
    ToolProperty,
    Tools,
)
from ollama_nb.prompt.gotemplate.template import Template

__all__ = [
    "Function",
    "Message",
    "Messages",
    "Template",
    "TemplateError",
    "TemplateRunError",
    "TemplateSyntaxError",
    "Tool",
    "ToolCall",
    "ToolCallFunction",
    "ToolFunction",
    "ToolParameters",
    "ToolProperty",
    "Tools",
    "template_data",
]
