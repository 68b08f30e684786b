"""Real children with the real model: they answer, they die, and none of them stays."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from ollama_nb.runner.messages import Finish, Generate, Load
from ollama_nb.runner.supervisor import Child
from ollama_nb.wire.errors import OllamaError, RunnerError

CHAT = "<|im_start|>user\nTell me a very long story.<|im_end|>\n<|im_start|>assistant\n"


def load(path, **fields):
    return Load(model=str(path), num_ctx=128, num_seq=2, num_thread=1, **fields)


@contextlib.asynccontextmanager
async def launched(path):
    child = await Child.launch(load(path), name="sample", stall_timeout=60)
    try:
        yield child
    finally:
        await child.close()
        assert not psutil.pid_exists(child.pid)


def request(prompt=CHAT, **fields):
    return lambda number: Generate(id=number, prompt=prompt, **fields)


async def answer(child, **fields):
    """Text and finish of a request."""
    parts = [part async for part in child.generate(request(**fields))]
    assert isinstance(parts[-1], Finish)
    return "".join(parts[:-1]), parts[-1]


def test_a_child_answers_and_is_gone_when_closed(sample_gguf):
    async def scenario():
        async with launched(sample_gguf) as child:
            text, finish = await answer(child, num_predict=5)
            assert text
            assert (finish.eval_count, finish.reason) == (5, "length")
            assert child.info.num_ctx == 128

    asyncio.run(scenario())


def test_tokens_come_back_as_text_and_unknown_ones_are_refused(sample_gguf):
    async def scenario():
        async with launched(sample_gguf) as child:
            assert await child.detokenize(await child.tokenize("Grüße, 世界")) == "Grüße, 世界"
            with pytest.raises(OllamaError, match="token ids must be between") as caught:
                await child.detokenize([1 << 30])
            assert caught.value.status == 400

    asyncio.run(scenario())


def test_a_killed_child_is_an_error_for_who_waits_and_a_refusal_for_who_comes(sample_gguf):
    async def scenario():
        async with launched(sample_gguf) as child:
            with pytest.raises(RunnerError, match="model runner has unexpectedly stopped") as caught:
                async for _ in child.generate(request()):
                    os.kill(child.pid, signal.SIGKILL)
            assert "killed by signal 9" in caught.value.hint
            assert not child.alive
            with pytest.raises(RunnerError, match="unexpectedly stopped"):
                await answer(child)

    asyncio.run(scenario())


def test_leaving_an_answer_early_frees_its_sequence(sample_gguf):
    async def scenario():
        async with launched(sample_gguf) as child:
            for _ in range(5):  # more than there are sequences: each must have been freed
                async with contextlib.aclosing(child.generate(request())) as parts:
                    await anext(parts)
            _, finish = await answer(child, num_predict=3)
            assert finish.eval_count == 3

    asyncio.run(scenario())


@pytest.mark.parametrize("content", [b"", b"GGUF", b"no model at all" * 100])
def test_a_file_that_is_no_model_is_an_error_with_the_reason(tmp_path, content):
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)

    async def scenario():
        with pytest.raises(RunnerError, match="llama runner process has terminated: error loading model"):
            await Child.launch(load(path), name="broken", stall_timeout=60)

    asyncio.run(scenario())


def test_a_truncated_model_is_an_error(tmp_path, sample_gguf):
    path = tmp_path / "short.gguf"
    with sample_gguf.open("rb") as whole:
        path.write_bytes(whole.read(20_000_000))

    async def scenario():
        with pytest.raises(RunnerError, match="llama runner process has terminated"):
            await Child.launch(load(path), name="short", stall_timeout=60)

    asyncio.run(scenario())


def test_a_load_that_stalls_is_given_up_and_leaves_no_process(tmp_path):
    pipe = tmp_path / "never.gguf"
    os.mkfifo(pipe)  # opening it for reading waits for a writer that does not come

    async def scenario():
        with pytest.raises(RunnerError, match=r"timed out waiting for llama runner to start - progress 0\.00"):
            await Child.launch(load(pipe), name="never", stall_timeout=3)

    asyncio.run(scenario())
    assert not psutil.Process().children()


def test_a_cancelled_launch_leaves_no_process(sample_gguf):
    async def scenario():
        launch = asyncio.ensure_future(Child.launch(load(sample_gguf), name="sample", stall_timeout=60))
        await asyncio.sleep(0.1)
        launch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await launch

    asyncio.run(scenario())
    assert not psutil.Process().children()


def test_a_child_does_not_outlive_a_parent_that_is_killed(sample_gguf):
    script = (
        "import asyncio, time\n"
        "from ollama_nb.runner.messages import Load\n"
        "from ollama_nb.runner.supervisor import Child\n"
        "async def main():\n"
        f"    load = Load(model={str(sample_gguf)!r}, num_ctx=64, num_thread=1)\n"
        "    child = await Child.launch(load, name='x', stall_timeout=60)\n"
        "    print(child.pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        grandchild = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 30
    while psutil.pid_exists(grandchild) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(grandchild)
