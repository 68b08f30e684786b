"""Chat templates in a process of their own: what they may do, and that nothing they do reaches the server."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

from ollama_nb.prompt import sandbox
from ollama_nb.prompt.sandbox import SandboxedTemplate
from ollama_nb.wire.errors import BadRequestError, OllamaError

HELLO = [{"role": "user", "content": "Hello ü"}]
SAYING = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}{{ tools | length }}"

DOUBLING = (
    "{% set ns = namespace(x=START) %}{% for i in range(60) %}{% set ns.x = STEP %}{% endfor %}{{ ns.x | length }}"
)
HOSTILE = {
    "text that doubles": DOUBLING.replace("START", "'a' * 1000000").replace("STEP", "ns.x ~ ns.x"),
    "sums that double": DOUBLING.replace("START", "'a' * 1000000").replace("STEP", "ns.x + ns.x"),
    "lists that double": DOUBLING.replace("START", "[1] * 1000000").replace("STEP", "ns.x + ns.x"),
    "lists within lists": DOUBLING.replace("START", "[1]").replace("STEP", "[ns.x, ns.x]") + "{{ ns.x | tojson }}",
    "wide indents": "{{ ('a\\n' * 30000000) | indent(9999) }}",
    "wide batches": "{{ [1] | batch(9999999999, 'x') | list | length }}",
    "constants": "{{ 'a\\n' | indent(2000000000) }}",
}


@pytest.fixture
def short(monkeypatch):
    """Less patience, so that the test has it too; enough for a slow machine to start the next process."""
    monkeypatch.setattr(sandbox, "PATIENCE", 8.0)


def test_a_template_says_what_it_says_anywhere():
    template = SandboxedTemplate(SAYING, bos="<s>")
    assert template.render(HELLO, tools=[1, 2]) == "<s>user: Hello ü2"
    assert template.variables >= {"messages", "tools", "bos_token"}


def test_errors_are_those_of_the_template():
    with pytest.raises(OllamaError, match="template error") as broken:
        SandboxedTemplate("{% if %}")
    assert broken.value.status == 500
    with pytest.raises(BadRequestError, match="no system messages"):
        SandboxedTemplate("{{ raise_exception('no system messages') }}").render(HELLO)
    with pytest.raises(OllamaError, match="template error"):
        SandboxedTemplate("\ud800")
    with pytest.raises(OllamaError, match="template error"):
        SandboxedTemplate(r"{{ '\ud800' }}").render(HELLO)


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE)
def test_what_takes_all_memory_takes_none_of_ours(short, source):
    before = psutil.Process().memory_info().rss
    with pytest.raises(OllamaError, match="template error"):
        SandboxedTemplate(source).render(HELLO)
    assert psutil.Process().memory_info().rss < before + (100 << 20)
    assert SandboxedTemplate(SAYING).render(HELLO) == "user: Hello ü0", "the next template is served"


def test_what_does_not_end_is_ended(short):
    source = "{% set ns = namespace(x=9999999999) %}{% for i in range(40) %}{% set ns.x = ns.x * ns.x %}{% endfor %}"
    with pytest.raises(BadRequestError, match="too long"):
        SandboxedTemplate(source).render(HELLO)
    assert SandboxedTemplate(SAYING).render(HELLO) == "user: Hello ü0"


def test_it_ends_with_the_server_however_that_ends():
    program = (
        "import time\n"
        "from ollama_nb.prompt import sandbox\n"
        "sandbox.SandboxedTemplate('x')\n"
        "print(sandbox._process()._child.pid, flush=True)\n"
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as server:
        child = psutil.Process(int(server.stdout.readline()))
        server.kill()
    deadline = time.monotonic() + 60
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
