from __future__ import annotations

import pytest

from ollama_nb.prompt.jinja import MAX_OUTPUT, ChatTemplate
from ollama_nb.wire.errors import BadRequestError, OllamaError

HELLO = [{"role": "user", "content": "Hello"}]


def rendered(source, messages=HELLO, **tokens):
    return ChatTemplate(source, **tokens).render(messages)


def failure(source, messages=HELLO):
    with pytest.raises(OllamaError) as caught:
        rendered(source, messages)
    assert caught.value.message.startswith("template error: ")
    return caught.value


def test_a_template_sees_messages_tokens_and_that_an_answer_is_wanted():
    loop = "{% for m in messages %}{{ m.role }}={{ m['content'] }}{{ eos_token }}{% endfor %}"
    source = "{{ bos_token }}" + loop + "{{ add_generation_prompt }}"
    assert rendered(source, bos="<s>", eos="</s>") == "<s>user=Hello</s>True"


def test_a_block_takes_its_line_break_and_indentation_with_it():
    assert rendered("{% if true %}\n    {% for m in messages %}\nx\n    {% endfor %}\n{% endif %}") == "x\n"


def test_loops_can_be_left():
    body = "{% if n == 1 %}{% continue %}{% elif n == 3 %}{% break %}{% endif %}{{ n }}"
    assert rendered("{% for n in range(9) %}" + body + "{% endfor %}") == "02"


def test_tojson_writes_plain_json():
    message = {"role": "user", "content": "<b> & 'ü' \u2028"}
    assert rendered("{{ messages[0] | tojson }}", [message]) == ('{"role": "user", "content": "<b> & \'ü\' \u2028"}')
    assert rendered("{{ {'b': 1, 'a': [2]} | tojson(indent=2) }}") == '{\n  "b": 1,\n  "a": [\n    2\n  ]\n}'


def test_strftime_now_tells_the_date():
    assert rendered("{{ strftime_now('%Y') | int > 2000 }} {{ strftime_now('no codes') }}") == "True no codes"


def test_what_a_message_does_not_have_is_nothing():
    assert rendered("[{{ messages[0].tool_calls }}{{ messages[0]['name'] }}{{ tools }}]") == "[]"
    assert rendered("{% if messages[0].tool_calls is defined or tools %}yes{% else %}no{% endif %}") == "no"


@pytest.mark.parametrize("source", ["{{ tools.function.name }}", "{{ messages[7].content }}", "{{ messages[0].a.b }}"])
def test_something_missing_of_something_missing_is_an_error(source):
    assert failure(source).status == 500


def test_a_template_may_refuse_a_conversation():
    source = "{% if messages[0].role != 'user' %}{{ raise_exception('roles must alternate') }}{% endif %}ok"
    assert rendered(source) == "ok"
    with pytest.raises(BadRequestError) as caught:
        rendered(source, [{"role": "assistant", "content": ""}])
    assert caught.value.message == "template error: roles must alternate"
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "source", ["{% if %}", "{{ messages", "{% for m in messages %}", "{% nonsense %}", "{{ 1 | nothing }}"]
)
def test_a_template_that_does_not_parse_is_refused_when_it_is_compiled(source):
    with pytest.raises(OllamaError, match=r"^template error: ") as caught:
        ChatTemplate(source)
    assert caught.value.status == 500


@pytest.mark.parametrize(
    "source",
    [
        "{{ nothing() }}", "{{ 1 / 0 }}", "{{ 'a' + 1 }}", "{{ messages.nothing() }}", "{{ messages | sum }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ range(1000000) }}", "{{ 'é'.encode('ascii') }}",
        "{% include 'other' %}", "{{ strftime_now(1) }}",
    ],
)  # fmt: skip
def test_a_template_that_fails_is_an_error_with_its_reason(source):
    error = failure(source)
    assert error.status == 500
    assert len(error.message) > len("template error: ")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__class__.__base__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ strftime_now.__code__.co_consts }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ lipsum.__globals__['os'].system('id') }}",
        "{{ '{0.__class__.__mro__}'.format('').upper() }}{{ ''['__class__'].mro() }}",
        "{{ ''|attr('__class__')|attr('mro') }}",
        "{{ messages.append({}) }}",
        "{{ messages[0].update(role='system') }}",
        "{{ messages[0].clear() }}",
    ],
)
def test_nothing_beyond_the_conversation_can_be_reached_or_changed(source):
    messages = [{"role": "user", "content": "Hello"}]
    failure(source, messages)
    assert messages == HELLO


@pytest.mark.parametrize(
    "expression",
    ["(1).__class__", "raise_exception.__globals__", "'{0.__class__}'.format(1)"],
)
def test_what_the_sandbox_does_not_refuse_it_hides(expression):
    assert rendered("[{{ " + expression + " }}]") == "[]"


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
        "{% for i in range(100000) %}{% if true %}{% for j in range(100000) %}{% endfor %}{% endif %}{% endfor %}",
        "{{ 'x' * 1000000000000 }}",
        "{{ 1000000000000 * 'x' }}",
        "{{ [1, 2] * 1000000000000 }}",
        f"{{% for i in range(1000) %}}{{{{ 'x' * {MAX_OUTPUT // 100} }}}}{{% endfor %}}",
    ],
)
def test_a_template_that_would_go_on_and_on_is_stopped(source):
    assert failure(source).status == 400


@pytest.mark.parametrize(
    "source",
    [
        "{{ 10 ** 1000000000 }}", "{{ 'x'.center(1000000000000) }}", "{{ 'x' | center(1000000000000) }}",
        "{{ 'x'.ljust(1000000000000) }}", "{{ '1'.zfill(1000000000000) }}", "{{ '%1000000000000d' % 1 }}",
        "{{ '%*d' % (1000000000000, 1) }}", "{{ '{:1000000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 1000000000000) }}", "{{ '%1000000000000d' | format(1) }}",
    ],
)  # fmt: skip
def test_what_makes_much_out_of_little_is_not_there(source):
    with pytest.raises(OllamaError, match=r"^template error: "):
        rendered(source)


def test_ordinary_formatting_and_arithmetic_are_there():
    source = "{{ '%s-%02d' % ('a', 7) }} {{ '{:>3}|{}'.format('b', 1) }} {{ 'ab' * 2 }} {{ 6 * 7 }} {{ 7 % 4 }}"
    assert rendered(source) == "a-07   b|1 abab 42 3"


def test_a_limit_reached_once_does_not_shorten_the_next_rendering():
    endless = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"
    failure(endless)
    assert rendered("{% for m in messages %}{{ m.content }}{% endfor %}") == "Hello"


def test_a_long_conversation_is_within_the_limits():
    messages = [{"role": "user", "content": f"message {number}"} for number in range(5000)]
    source = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}\n{% endif %}{% endfor %}"
    assert rendered(source, messages).count("\n") == 5000
