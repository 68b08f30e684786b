"""Real conversion processes: what they tell, how they end, and that none stays when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys

import msgspec
import psutil
import pytest
from gguf_files import gguf_bytes
from quantizable_files import shape, write_narrow, write_slow

from ollama_nb.convert import process
from ollama_nb.convert.jobs import BaseModel, ConvertAdapter, ConvertModel, Done, Event, Job, JobFailed, Quantize, Step
from ollama_nb.convert.process import run
from ollama_nb.convert.worker import PAUSE, Progress
from ollama_nb.gguf.reader import read_header
from ollama_nb.wire.errors import OllamaError

WORKER = ("-P", "-m", "ollama_nb.convert.worker")
PATIENCE = 120
SLOW = "IQ3_S"
"""The type that takes longest."""


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    return write_narrow(tmp_path_factory.mktemp("narrow") / "model.gguf")


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A model that takes seconds to quantize, so that something can happen meanwhile."""
    return write_slow(tmp_path_factory.mktemp("slow") / "model.gguf")


def job(source, folder, kind="Q8_0"):
    return Quantize(source=str(source), out=str(folder / "out.gguf"), type=kind)


def processes(of=None):
    """The conversions that a process has started."""
    return [child for child in psutil.Process(of).children() if "ollama_nb.convert.worker" in child.cmdline()]


async def events(work):
    async with contextlib.aclosing(run(work)) as told:
        return [event async for event in told]


def failure(work):
    with pytest.raises(OllamaError) as caught:
        asyncio.run(events(work))
    assert not processes()
    return caught.value


# -- what is told ----------------------------------------------------------------------------------------------------


def test_steps_come_and_the_file_is_there_when_it_is_done(narrow, tmp_path):
    *steps, done = asyncio.run(events(job(narrow, tmp_path, "Q4_K_M")))
    assert steps[0].completed == 0
    assert steps[-1].completed == steps[-1].total == sum(tensor.size for tensor in read_header(narrow).tensors)
    assert isinstance(done, Done)
    assert "became Q5_0 instead of Q4_K" in done.notes[0]
    assert read_header(tmp_path / "out.gguf").file_type == "Q4_K_M"
    assert not processes()


def test_a_file_that_is_to_blame_is_400_with_a_hint(sample_gguf, tmp_path):
    error = failure(job(sample_gguf, tmp_path))
    assert (error.message, error.status) == ("quantization is only supported for F16 and F32 models", 400)
    assert "Q4_1" in error.hint


@pytest.mark.parametrize(
    ("damage", "text"),
    [(lambda data: data[:-200], "ends at byte"), (lambda data: data[:0], "not in GGUF format")],
)
def test_a_broken_file_is_400(narrow, tmp_path, damage, text):
    (tmp_path / "broken.gguf").write_bytes(damage(narrow.read_bytes()))
    error = failure(job(tmp_path / "broken.gguf", tmp_path))
    assert text in error.message
    assert error.status == 400


def test_a_file_that_is_gone_is_500_in_one_line(tmp_path):
    error = failure(job(tmp_path / "nothing.gguf", tmp_path))
    assert error.message.startswith("FileNotFoundError")
    assert "\n" not in error.message
    assert error.status == 500


def test_a_file_that_makes_llama_cpp_abort_ends_the_process_only(narrow, tmp_path):
    source = tmp_path / "hostile.gguf"
    source.write_bytes(gguf_bytes(shape(32, 64, 100_000), [("blk.0.ffn_up.weight", "F32", (32, 64))]))
    error = failure(job(source, tmp_path))
    assert error.message == "the quantization has unexpectedly stopped: killed by signal 6"
    assert error.status == 500
    assert "last log lines: " in error.hint
    assert "GGML_ASSERT" in error.hint
    assert isinstance(asyncio.run(events(job(narrow, tmp_path)))[-1], Done)


def test_a_process_that_is_killed_is_told_with_its_last_words(slow, tmp_path):
    async def scenario():
        async with contextlib.aclosing(run(job(slow, tmp_path, SLOW))) as told:
            async for _ in told:
                for child in processes():
                    child.kill()

    with pytest.raises(OllamaError, match="the quantization has unexpectedly stopped: killed by signal 9") as caught:
        asyncio.run(scenario())
    assert "it may have needed more memory than there is; last log lines: " in str(caught.value.hint)


@pytest.mark.parametrize(
    ("script", "hint"),
    [
        ("import sys; sys.exit(3)", "it left no message"),
        ("import sys; sys.stdin.readline(); print('one\\ntwo', file=sys.stderr); sys.exit(3)", "log lines: one | two"),
        ("import sys; sys.stdin.readline(); print('{\"event\":'); input()", "it left no message"),
        ("import sys; sys.stdin.readline(); print('x' * 100); input()", "it left no message"),
    ],
    ids=["says nothing", "only complains", "half a line", "another language"],
)
def test_a_process_that_does_not_speak_as_it_should_is_an_error(tmp_path, monkeypatch, script, hint):
    """A script stands in for the process, since the real one does not do this on demand."""
    pretend(monkeypatch, tmp_path, script)
    error = failure(ConvertModel(files={}, out=str(tmp_path / "out.gguf")))
    assert error.message.startswith("the conversion has unexpectedly stopped: ")
    assert hint in error.hint


def test_a_process_that_has_done_its_job_and_stays_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "CLOSE_GRACE", 0.2)
    said = msgspec.json.encode(Done(["a note"])).decode()
    pretend(monkeypatch, tmp_path, f"import sys, time; print({said!r}, flush=True); time.sleep(600)")
    assert asyncio.run(events(job("/model", tmp_path))) == [Done(["a note"])]


def pretend(monkeypatch, folder, script):
    """Another program instead of Python, whatever it is asked to run."""
    program = folder / "pretender"
    program.write_text(f"#!{sys.executable}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(process.sys, "executable", str(program))


# -- when nobody waits any more --------------------------------------------------------------------------------------


def test_a_cancelled_task_leaves_no_process(slow, tmp_path):
    async def scenario():
        begun = asyncio.Event()

        async def wait():
            async with contextlib.aclosing(run(job(slow, tmp_path, SLOW))) as told:
                async for _ in told:
                    begun.set()

        task = asyncio.create_task(wait())
        await begun.wait()
        (child,) = processes()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not psutil.pid_exists(child.pid)

    asyncio.run(scenario())


def test_a_generator_that_is_closed_leaves_no_process(slow, tmp_path):
    async def scenario():
        told = run(job(slow, tmp_path, SLOW))
        assert isinstance(await anext(told), Step)
        (child,) = processes()
        await told.aclose()
        assert not psutil.pid_exists(child.pid)

    asyncio.run(scenario())


def test_a_server_that_is_killed_leaves_no_process(slow, tmp_path):
    script = (
        "import asyncio, sys\n"
        "from ollama_nb.convert.jobs import Quantize\n"
        "from ollama_nb.convert.process import run\n"
        "async def main():\n"
        "    async for event in run(Quantize(source=sys.argv[1], out=sys.argv[2], type=sys.argv[3])):\n"
        "        print(event, flush=True)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", script, str(slow), str(tmp_path / "out.gguf"), SLOW]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert b"Step" in server.stdout.readline()
        (child,) = processes(server.pid)
        server.kill()
        assert b"Done" not in server.stdout.read()
    child.wait(PATIENCE)


def test_jobs_run_one_after_the_other(narrow, slow, tmp_path):
    async def scenario():
        order = []

        async def work(name, source, kind):
            task = Quantize(source=str(source), out=str(tmp_path / name), type=kind)
            async with contextlib.aclosing(run(task)) as told:
                async for event in told:
                    order.append((name, type(event)))
                    assert len(processes()) <= 1

        await asyncio.gather(work("first", slow, "Q8_0"), work("second", narrow, "Q8_0"), work("third", narrow, "F16"))
        names = [name for name, _ in order]
        assert names == sorted(names, key=["first", "second", "third"].index)
        assert [event for _, event in order].count(Done) == 3

    asyncio.run(scenario())


def test_a_job_that_waits_for_its_turn_can_be_cancelled(slow, narrow, tmp_path):
    async def scenario():
        told = run(job(slow, tmp_path, SLOW))
        await anext(told)
        waiting = asyncio.create_task(events(job(narrow, tmp_path)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert len(processes()) == 1
        await told.aclose()
        assert isinstance((await events(job(narrow, tmp_path)))[-1], Done)

    asyncio.run(scenario())


# -- the process by hand ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def worker():
    """A worker on the end of two pipes."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, *WORKER], **pipes) as child:
        try:
            yield child
        finally:
            child.kill()


def say(child, work):
    child.stdin.write(msgspec.json.encode(work) + b"\n")
    child.stdin.flush()


def test_it_ends_when_its_stdin_closes_in_mid_work(slow, tmp_path):
    with worker() as child:
        say(child, job(slow, tmp_path, SLOW))
        assert isinstance(msgspec.json.decode(child.stdout.readline(), type=Event), Step)
        child.stdin.close()
        assert child.wait(PATIENCE) == 0
        assert b"Done" not in child.stdout.read()


@pytest.mark.parametrize("said", [b"", b'{"job":"Quantize","source":"/a'], ids=["nothing", "half a job"])
def test_it_ends_when_nobody_says_what_to_do(said):
    with worker() as child:
        out, err = child.communicate(said, timeout=PATIENCE)
    assert (child.returncode, out, err) == (0, b"", b"")


def test_it_goes_on_at_ctrl_c_and_gives_way_to_others(slow, tmp_path):
    with worker() as child:
        say(child, job(slow, tmp_path, "Q4_K_M"))
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        nice = psutil.Process(child.pid).nice()
        told = [msgspec.json.decode(line, type=Event) for line in child.stdout]
    assert isinstance(told[-1], Done)
    assert nice > psutil.Process().nice()


def test_only_events_stand_in_its_stdout_and_llama_cpps_words_in_its_log(narrow, tmp_path):
    with worker() as child:
        say(child, job(narrow, tmp_path))
        out, err = child.stdout.read(), child.stderr.read()
    assert [type(msgspec.json.decode(line, type=Event)) for line in out.splitlines()][-1] is Done
    assert b"blk.0.attn_q.weight" in err


def test_what_nobody_expected_is_one_line_and_a_traceback_in_the_log(tmp_path):
    with worker() as child:
        say(child, job(tmp_path, tmp_path))
        out, err = child.stdout.read(), child.stderr.read()
    told = msgspec.json.decode(out, type=Event)
    assert isinstance(told, JobFailed)
    assert (told.status, told.error.count("\n")) == (500, 0)
    assert b"Traceback" in err


# -- frames ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (Quantize(source="/a", out="/b", type="Q4_K_M"), Job),
        (ConvertModel(files={"config.json": "/a", "model.safetensors": "/b"}, out="/c", type="F16"), Job),
        (
            ConvertAdapter(
                files={"adapter_config.json": "/a"},
                out="/c",
                base=BaseModel(architecture="llama", block_count=1, head_count=8, head_count_kv=2),
            ),
            Job,
        ),
        (Step(1, 2), Event),
        (Done(["a\nnote", "ß"]), Event),
        (JobFailed("wrong", 400, "do right"), Event),
    ],
)
def test_every_frame_is_one_line_and_comes_back_as_it_was(frame, kind):
    line = msgspec.json.encode(frame)
    assert b"\n" not in line
    assert msgspec.json.decode(line, type=kind) == frame


def test_steps_are_told_at_a_human_rate_but_the_last_one_always():
    now, told = [0.0], []
    progress = Progress(told.append, clock=lambda: now[0])
    for completed in range(1001):
        progress(completed, 1000)
        now[0] += PAUSE / 100
    progress(1000, 1000)
    assert told[0] == Step(0, 1000)
    assert told[-1] == Step(1000, 1000)
    assert len(told) == pytest.approx(12, abs=1)
    assert len(set(told)) == len(told)
