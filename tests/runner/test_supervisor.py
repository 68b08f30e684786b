"""Real children with the real model: they answer, they die, and none of them stays.

What a real child does not do on demand - break its frames, ignore the end of its pipe, speak late - is done by
``pretender``, a script in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from embedding_files import WORDS, write_bert

from ollama_nb.runner import supervisor
from ollama_nb.runner.messages import Finish, Generate, Load, Sampling
from ollama_nb.runner.supervisor import Child
from ollama_nb.wire.errors import OllamaError, RunnerError

CHAT = "<|im_start|>user\nTell me a very long story.<|im_end|>\n<|im_start|>assistant\n"


def model_processes():
    """The processes of models that this one has started; one for chat templates may be there too."""
    return [child for child in psutil.Process().children() if "ollama_nb.runner.worker" in child.cmdline()]


def load(path, **fields):
    return Load(**{"model": str(path), "num_ctx": 128, "num_seq": 2, "num_thread": 1, **fields})


@contextlib.asynccontextmanager
async def launched(path, **fields):
    child = await Child.launch(load(path, **fields), name="sample", stall_timeout=60)
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
    return "".join(part.text for part in parts[:-1]), parts[-1]


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


def test_requests_at_once_do_not_cross(sample_gguf):
    async def scenario():
        async with launched(sample_gguf) as child:
            results = await asyncio.gather(
                *(answer(child, num_predict=number) for number in range(1, 6)),
                *(child.tokenize("word " * number) for number in range(1, 6)),
            )
            assert [finish.eval_count for _, finish in results[:5]] == [1, 2, 3, 4, 5]
            assert [len(tokens) for tokens in results[5:]] == sorted(len(tokens) for tokens in results[5:])

    asyncio.run(scenario())


def test_a_prompt_without_tokens_is_ollamas_error(sample_gguf):
    async def scenario():
        async with launched(sample_gguf) as child:
            with pytest.raises(OllamaError, match="Failed to create new sequence: no input provided\n") as caught:
                await answer(child, prompt="")
            assert caught.value.status == 500
            assert child.alive

    asyncio.run(scenario())


def test_a_cancelled_request_frees_the_only_sequence_in_the_middle_of_its_prompt(sample_gguf):
    async def scenario():
        async with launched(sample_gguf, num_ctx=512, num_seq=1) as child:
            reading = asyncio.ensure_future(answer(child, prompt="word " * 500))
            # The tokenizer answers behind the prompt: the child is reading it now.
            await child.tokenize("x")
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            _, finish = await answer(child, num_predict=2)
            assert finish.eval_count == 2

    asyncio.run(scenario())


def test_many_texts_are_embedded_at_once_beside_an_answer(sample_gguf):
    async def scenario():
        async with launched(sample_gguf) as child:
            texts = ["one", "two three", "four five six"]
            (text, _), *embedded = await asyncio.gather(
                answer(child, num_predict=8), *(child.embed(text) for text in texts)
            )
            assert text
            vectors = [np.frombuffer(item.vector, dtype="<f4") for item in embedded]
            assert {vector.shape for vector in vectors} == {(576,)}
            assert [item.prompt_count for item in embedded] == [1, 2, 3]
            alone = np.frombuffer((await child.embed("two three")).vector, dtype="<f4")
            cosine = alone @ vectors[1] / np.linalg.norm(alone) / np.linalg.norm(vectors[1])
            assert cosine > 0.999

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("text", "overflow", "message"),
    [("word " * 200, "refuse", "the input length exceeds the context length"), ("", "head", "no input provided")],
)
def test_a_text_that_cannot_be_embedded_is_the_requests_fault(sample_gguf, text, overflow, message):
    async def scenario():
        async with launched(sample_gguf) as child:
            with pytest.raises(OllamaError, match=f"^{message}$") as caught:
                await child.embed(text, overflow=overflow)
            assert caught.value.status == 400

    asyncio.run(scenario())


def test_a_cancelled_text_frees_the_only_sequence(sample_gguf):
    async def scenario():
        async with launched(sample_gguf, num_ctx=512, num_seq=1) as child:
            reading = asyncio.ensure_future(child.embed("word " * 500))
            # The tokenizer answers behind the text: the child is reading it now.
            await child.tokenize("x")
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            _, finish = await answer(child, num_predict=2)
            assert finish.eval_count == 2

    asyncio.run(scenario())


def test_an_embedding_model_gives_vectors_and_no_answers(tmp_path):
    async def scenario():
        async with launched(write_bert(tmp_path / "bert.gguf")) as child:
            assert child.info.num_ctx == 64
            embedded = await asyncio.gather(*(child.embed(word) for word in WORDS))
            assert len({item.vector for item in embedded}) == len(WORDS)
            with pytest.raises(OllamaError, match="this model makes embeddings; it cannot generate text") as caught:
                await answer(child)
            assert caught.value.status == 400
            alone = np.frombuffer((await child.embed(WORDS[0])).vector, dtype="<f4")
            np.testing.assert_allclose(alone, np.frombuffer(embedded[0].vector, dtype="<f4"), atol=1e-5)

    asyncio.run(scenario())


@pytest.mark.parametrize("token", [-1, 49152])
def test_a_bias_of_a_token_that_there_is_not_is_refused(sample_gguf, token):
    async def scenario():
        async with launched(sample_gguf) as child:
            expected = 'option "logit_bias": token ids must be between 0 and 49151'
            with pytest.raises(OllamaError, match=expected) as caught:
                await answer(child, sampling=Sampling(logit_bias={0: 1.0, token: 1.0}))
            assert caught.value.status == 400

    asyncio.run(scenario())


def test_the_probabilities_of_an_answer_come_with_its_text(sample_gguf):
    async def scenario():
        async with launched(sample_gguf) as child:
            parts = [part async for part in child.generate(request(num_predict=4, logprobs=True, top_logprobs=2))]
            told = [entry for piece in parts[:-1] for entry in piece.logprobs]
            assert len(told) == parts[-1].eval_count == 4
            assert b"".join(entry.token.piece for entry in told).decode() == "".join(part.text for part in parts[:-1])
            assert all(len(entry.top) == 2 and entry.top[0].logprob >= entry.token.logprob for entry in told)

    asyncio.run(scenario())


def test_closing_a_child_that_computes_ends_its_requests(sample_gguf):
    async def scenario():
        async with launched(sample_gguf) as child:
            with pytest.raises(RunnerError, match="unexpectedly stopped"):
                async for _ in child.generate(request()):
                    closing = asyncio.ensure_future(child.close())
            await closing
            await child.close()

    asyncio.run(scenario())


def test_the_end_of_a_child_is_told_once(sample_gguf):
    async def scenario():
        ends = []
        async with launched(sample_gguf) as child:
            child.on_end = lambda: ends.append(child.alive)
            child.kill()
            with pytest.raises(RunnerError, match="unexpectedly stopped"):
                await child.tokenize("x")
        assert ends == [False]

    asyncio.run(scenario())


def test_a_child_that_died_needs_no_closing(sample_gguf):
    async def scenario():
        child = await Child.launch(load(sample_gguf), name="sample", stall_timeout=60)
        child.kill()
        with pytest.raises(RunnerError):
            await child.tokenize("x")

    asyncio.run(scenario())
    # What it left open would be a ResourceWarning now, and with that an error.
    gc.collect()


def test_modules_in_the_servers_folder_are_not_the_childs(sample_gguf, tmp_path, monkeypatch):
    for name in ("queue", "numpy", "signal", "msgspec"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('a file of the user')")
    monkeypatch.chdir(tmp_path)

    async def scenario():
        async with launched(sample_gguf) as child:
            assert await child.tokenize("x")

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


def test_the_reason_is_llama_cpps_own(tmp_path, gguf_bytes):
    path = tmp_path / "strange.gguf"
    path.write_bytes(gguf_bytes({"general.architecture": "nonesuch"}))

    async def scenario():
        with pytest.raises(RunnerError) as caught:
            await Child.launch(load(path), name="strange", stall_timeout=60)
        assert caught.value.status == 500
        assert caught.value.message.startswith("llama runner process has terminated: error loading model: ")
        assert caught.value.message.endswith("unknown model architecture: 'nonesuch'")
        assert "last log lines" in caught.value.hint

    asyncio.run(scenario())


@pytest.mark.parametrize("what", ["missing", "garbage", "a model"])
def test_an_adapter_that_is_none_is_an_error_with_the_reason(tmp_path, sample_gguf, what):
    path = sample_gguf if what == "a model" else tmp_path / "adapter.gguf"
    if what == "garbage":
        path.write_bytes(b"no adapter at all")

    async def scenario():
        with pytest.raises(RunnerError, match=r"process has terminated: unable to load adapter: .+"):
            await Child.launch(load(sample_gguf, adapters=(str(path),)), name="adapted", stall_timeout=60)

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
    assert not model_processes()


@pytest.mark.parametrize("delay", [0, 0.01, 0.1, 0.25])
def test_a_cancelled_launch_leaves_no_process(sample_gguf, delay):
    async def scenario():
        launch = asyncio.ensure_future(Child.launch(load(sample_gguf), name="sample", stall_timeout=60))
        await asyncio.sleep(delay)
        launch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await launch

    asyncio.run(scenario())
    assert not model_processes()


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


LOADED = "Loaded(num_ctx=8, num_ctx_train=8, model_size=1, adds_bos=False, num_thread=1)"


@pytest.fixture
def pretender(tmp_path, monkeypatch):
    """``pretender(lines)`` puts a script in the child's place; ``say(message)`` in it writes a frame."""

    def put(lines: str) -> None:
        path = tmp_path / "pretender"
        path.write_text(
            f"#!{sys.executable}\n"
            "import os, signal, sys, time\n"
            "from ollama_nb.runner.messages import *\n"
            "def say(message):\n"
            "    os.write(1, encode(message))\n"
            "def log(text):\n"
            "    os.write(2, text.encode())\n"
            "os.read(0, 1 << 16)\n" + lines
        )
        path.chmod(0o755)
        monkeypatch.setattr(supervisor.sys, "executable", str(path))

    return put


def launch_pretender(stall_timeout=60):
    return Child.launch(load("/none"), name="pretender", stall_timeout=stall_timeout)


@pytest.mark.parametrize("end", ["\\n", ""], ids=["whole line", "line without an end"])
def test_the_reason_is_told_even_if_the_log_comes_later(pretender, end):
    pretender(
        "say(LoadFailed('unable to load model'))\n"
        "time.sleep(0.3)\n"
        f"log('llama_model_load: error loading model: it is late{end}')\n"
    )

    async def scenario():
        with pytest.raises(RunnerError) as caught:
            await launch_pretender()
        assert caught.value.message == "llama runner process has terminated: error loading model: it is late"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("sys.exit(3)", "the process ended while loading: it left no message"),
        ("log('all is well\\nGGML_ASSERT(x) failed\\nbacktrace\\n'); os.abort()", "GGML_ASSERT(x) failed"),
        ("log('first\\nlast\\n')", "the process ended while loading: last"),
    ],
)
def test_a_child_that_ends_while_loading_leaves_its_last_words(pretender, lines, message):
    pretender(lines)

    async def scenario():
        with pytest.raises(RunnerError, match="llama runner process has terminated: ") as caught:
            await launch_pretender()
        assert caught.value.message.endswith(message)

    asyncio.run(scenario())


def test_a_child_that_dies_as_soon_as_it_is_loaded_is_not_handed_out(pretender):
    pretender(f"say({LOADED})\n")

    async def scenario():
        # Its words and its end may come in one turn of the loop or in two.
        with pytest.raises(RunnerError, match=r"unexpectedly stopped|process has terminated"):
            await (await launch_pretender()).tokenize("x")

    asyncio.run(scenario())


@pytest.mark.parametrize("broken", ["b'\\xff' * 8", "b'\\x01\\x00\\x00\\x00\\xc1'"])
def test_a_child_whose_frames_cannot_be_read_is_ended(pretender, broken):
    pretender(f"say({LOADED})\nos.read(0, 1 << 16)\nos.write(1, {broken})\ntime.sleep(600)\n")

    async def scenario():
        child = await launch_pretender()
        with pytest.raises(RunnerError, match="unexpectedly stopped") as caught:
            await answer(child)
        assert "killed by signal 9" in caught.value.hint
        await child.close()

    asyncio.run(scenario())


ATTENTIVE = f"""
say({LOADED})
cancelled = []
frames = FrameReader()
while data := os.read(0, 1 << 16):
    for message in map(decode_server, frames.feed(data)):
        if isinstance(message, Cancel):
            cancelled.append(message.id)
        elif isinstance(message, Tokenize):
            say(Tokens(message.id, cancelled))
        elif isinstance(message, Embed):
            if message.text == "fail":
                say(Failed(id=message.id, error="no"))
            elif message.text == "answer":
                say(Embedded(id=message.id, vector=b"", prompt_count=1))
        elif message.prompt == "fail":
            say(Failed(id=message.id, error="no"))
        else:
            counts = dict(prompt_count=1, cached_count=0, prompt_duration=1, eval_count=1, eval_duration=1)
            finished = [Finish(id=message.id, reason="stop", **counts)] if message.prompt == "end" else []
            say(Step([Piece(message.id, "text")], finished))
"""


def test_only_requests_that_are_left_early_are_cancelled_in_the_child(pretender):
    pretender(ATTENTIVE)

    async def scenario():
        child = await launch_pretender()
        assert (await answer(child, prompt="end"))[0] == "text"
        with pytest.raises(OllamaError, match="no"):
            await answer(child, prompt="fail")
        async with contextlib.aclosing(child.generate(request("left after its first text"))) as parts:
            assert (await anext(parts)).text == "text"
        waiting = asyncio.ensure_future(answer(child, prompt="left while waiting for more"))
        await child.tokenize("")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        # The fourth was a question to the tokenizer.
        assert await child.tokenize("") == [3, 5]
        await child.close()

    asyncio.run(scenario())


def test_only_texts_whose_vectors_are_not_awaited_any_more_are_cancelled_in_the_child(pretender):
    pretender(ATTENTIVE)

    async def scenario():
        child = await launch_pretender()
        assert (await child.embed("answer")).prompt_count == 1
        with pytest.raises(OllamaError, match="no"):
            await child.embed("fail")
        waiting = asyncio.ensure_future(child.embed("never answered"))
        # The third is the tokenizer's, the fourth the text's.
        await child.tokenize("")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await child.tokenize("") == [4]
        await child.close()

    asyncio.run(scenario())


def test_a_child_that_ignores_the_end_of_its_pipe_is_killed(pretender, monkeypatch):
    monkeypatch.setattr(supervisor, "CLOSE_GRACE", 0.2)
    pretender(f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\nsay({LOADED})\ntime.sleep(600)\n")

    async def scenario():
        child = await launch_pretender()
        await asyncio.gather(child.close(), child.close())
        assert not psutil.pid_exists(child.pid)

    asyncio.run(scenario())


def test_progress_puts_the_stall_off(pretender):
    steps = "for step in range(8):\n    say(LoadProgress(step / 8))\n    time.sleep(0.5)\n"
    pretender(f"{steps}say({LOADED})\nos.read(0, 1)\n")

    async def scenario():
        # Shorter than the whole load, longer than a step of it.
        child = await launch_pretender(stall_timeout=3)
        assert child.progress == 7 / 8
        await child.close()

    asyncio.run(scenario())


def test_a_stall_tells_how_far_it_came(pretender):
    pretender("say(LoadProgress(0.25))\nlog('reading tensor 7\\n')\nos.read(0, 1)\n")

    async def scenario():
        with pytest.raises(RunnerError) as caught:
            await launch_pretender(stall_timeout=2)
        expected = "timed out waiting for llama runner to start - progress 0.25 - reading tensor 7"
        assert caught.value.message == expected

    asyncio.run(scenario())
    assert not model_processes()
