"""Calls of tools, between a model's text and the API: what models write, read as it comes, and how they are made to.

``call`` says what is found and how it is asked for; ``registry`` picks a model's format by its chat template. Every
format is a module: ``generic`` for any template, and one for each family whose way of writing has its own rules. They
share ``scan`` for reading, and ``schema`` and ``lark`` for what a forced call may look like.
"""

from ollama_nb.prompt.tools.call import Delta, OutputParser, Tool, ToolCall, ToolFormat
from ollama_nb.prompt.tools.registry import tool_format

__all__ = ["Delta", "OutputParser", "Tool", "ToolCall", "ToolFormat", "tool_format"]
