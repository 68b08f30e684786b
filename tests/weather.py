"""What the clients of ``tests/compat`` ask with: a tool as a Python function and as JSON, and a schema for answers.

Every value of the schema has an end, so that a small model's answer has one too.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, Field

CITIES: Final = ("Rome", "Lima", "Quito")


def get_weather(city: str) -> str:
    """Get the weather of a city.

    Args:
      city: The name of the city.

    Returns:
      str: What the weather is like.
    """
    return f"22 degrees in {city}"


TOOL: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city.",
        "parameters": {
            "type": "object",
            "required": ["city"],
            "properties": {"city": {"type": "string", "description": "The name of the city."}},
        },
    },
}

OTHER_TOOL: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": "add_two_numbers",
        "description": "Add two whole numbers.",
        "parameters": {
            "type": "object",
            "required": ["a", "b"],
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        },
    },
}


class Weather(BaseModel):
    """The weather of a city."""

    city: Literal["Rome", "Lima", "Quito"]
    degrees: int = Field(ge=-60, le=60)
    sunny: bool


JSON_TURNS: Final = (
    ("user", 'Answer with JSON, like {"sunny": true}. Is it sunny in Rome?'),
    ("assistant", '{"sunny": true}'),
    ("user", 'Answer with JSON, like {"sunny": true}. Is it sunny in Lima?'),
    ("assistant", '{"sunny": true}'),
    ("user", 'Answer with JSON, like {"sunny": true}. Is it sunny in Quito?'),
)
"""Role and content of a conversation about JSON, which has an example that a small model goes on with."""


def weather_question(city: str = "Rome") -> dict[str, str]:
    """What ``caller`` answers with a call."""
    return {"role": "user", "content": f"What is the weather in {city}?"}


def json_question() -> list[dict[str, str]]:
    """``JSON_TURNS`` as messages."""
    return [{"role": role, "content": content} for role, content in JSON_TURNS]
