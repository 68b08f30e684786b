"""A conversation with two Python functions as tools, by PyPI's ``ollama`` and a real small model.

The client makes tools of functions and reads calls back; ``tool_choice``, which it does not know, goes beside it.
"""

from __future__ import annotations

import json

import httpx2
import ollama
import pytest
from ollama._utils import convert_function_to_tool
from samples import SMOLLM2
from templates import TOOLS


def add_two_numbers(a: int, b: int) -> int:
    """
    Add two numbers.

    Args:
      a: The first number.
      b: The second number.

    Returns:
      int: The sum of the two numbers.
    """
    return a + b


def get_weather(city: str, unit: str) -> str:
    """
    Get the weather of a city.

    Args:
      city: The name of the city.
      unit: celsius or fahrenheit.

    Returns:
      str: What the weather is like.
    """
    return f"22 degrees {unit} in {city}"


FUNCTIONS = {function.__name__: function for function in (add_two_numbers, get_weather)}
TOOLBOX = [convert_function_to_tool(function) for function in FUNCTIONS.values()]
SIGNATURES = {"add_two_numbers": {"a": int, "b": int}, "get_weather": {"city": str, "unit": str}}
QUESTION = {"role": "user", "content": "What is 12 plus 30, and is it raining in Paris?"}
OPTIONS = {"num_predict": 200, "num_thread": 1, "temperature": 0.8}


@pytest.fixture(scope="module")
def client(tmp_path_factory, start):
    with start(tmp_path_factory.mktemp("tools"), OLLAMA_CONTEXT_LENGTH="1024") as server:
        client = ollama.Client(host=server.url)
        client.create("tools", from_=SMOLLM2, template=TOOLS)
        yield client
        client._client.close()


def demanded(client, seed, choice="required", **fields):
    """The answer to the question, with a call demanded; as the client's own type."""
    body = {
        "model": "tools",
        "messages": [QUESTION],
        "tools": [tool.model_dump(exclude_none=True) for tool in TOOLBOX],
        "tool_choice": choice,
        "stream": False,
        "options": {**OPTIONS, "seed": seed},
        **fields,
    }
    response = httpx2.post(f"{client._client.base_url}/api/chat", json=body, timeout=120, trust_env=False)
    assert response.status_code == 200, response.text
    return ollama.ChatResponse(**response.json())


@pytest.mark.parametrize("seed", range(20))
def test_a_required_call_runs_a_python_function_and_its_result_is_answered(client, seed):
    answer = demanded(client, seed)
    (call,) = answer.message.tool_calls
    name, arguments = call.function.name, dict(call.function.arguments)
    assert {key: type(value) for key, value in arguments.items()} == SIGNATURES[name]
    assert answer.done_reason == "stop"
    assert not answer.message.content
    result = FUNCTIONS[name](**arguments)
    history = [QUESTION, answer.message, {"role": "tool", "tool_name": name, "content": str(result)}]
    last = client.chat("tools", history, tools=list(FUNCTIONS.values()), options={**OPTIONS, "num_predict": 6})
    assert last.done
    assert last.prompt_eval_count > answer.prompt_eval_count - 10


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_named_function_is_the_one_that_is_called(client, name):
    answer = demanded(client, 1, choice={"type": "function", "function": {"name": name}})
    assert [call.function.name for call in answer.message.tool_calls] == [name]


def test_functions_are_tools_without_any_choice(client):
    parts = client.chat(
        "tools", [QUESTION], tools=list(FUNCTIONS.values()), stream=True, options={**OPTIONS, "num_predict": 8}
    )
    assert list(parts)[-1].done


def test_arguments_are_json_that_survives_the_way_back(client):
    answer = demanded(client, 3, choice={"type": "function", "function": {"name": "get_weather"}})
    call = answer.message.tool_calls[0]
    assert json.loads(json.dumps(call.function.arguments)) == call.function.arguments
