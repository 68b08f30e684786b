"""The loop that computes all answers together, on the real model: nobody's answer depends on anybody else's."""

import threading
import time
from typing import Any, Self

import pytest
from engine.bench import QUESTIONS, Bench, ForgetsAll, Watched, assert_same_or_a_close_call, chat

from ollama_nb.engine.batch import Batch
from ollama_nb.engine.model import AbortedError, DecodeError
from ollama_nb.runner.messages import PROMPT_TOO_LONG, Failed, Sampling, Step

# -- answers together ----------------------------------------------------------------------------------------------


def test_eight_answers_at_once_are_the_eight_answers_alone(bench, load):
    prompts = [chat(question) for question in QUESTIONS]
    together = bench(256, 8, 64)
    numbers = [together.submit(prompt) for prompt in prompts]
    together.finish()
    assert sorted(together.finished) == numbers
    for number, prompt in zip(numbers, prompts, strict=True):
        alone, finish = bench(256, 8, 64).answer(prompt)
        assert_same_or_a_close_call(load(256, 8, 64), prompt, alone, together.text[number])
        assert together.finished[number].prompt_count == finish.prompt_count
    assert len({together.text[number] for number in numbers}) == 8


def test_more_requests_than_slots_are_answered_in_turn(bench):
    crowd = bench(256, 4, 64)
    numbers = [crowd.submit(chat(question), num_predict=2) for question in QUESTIONS]
    crowd.finish()
    assert sorted(crowd.finished) == numbers
    assert sorted(crowd.first[:4]) == numbers[:4]


def test_all_running_answers_share_a_decode(bench):
    four = bench()
    for question in QUESTIONS[:4]:
        four.submit(chat(question), num_predict=5)
    four.finish()
    # The prompts, in one batch or two, then one batch a token.
    assert len(four.model.sizes) <= 2 + 5
    assert 4 in four.model.sizes


def test_an_answer_may_begin_in_the_middle_of_another(bench, load):
    late = bench()
    first = late.submit(chat(QUESTIONS[0]), num_predict=8)
    for _ in range(4):
        late.step()
    second = late.submit(chat(QUESTIONS[1]), num_predict=4)
    late.finish()
    for number, question, length in ((first, QUESTIONS[0], 8), (second, QUESTIONS[1], 4)):
        alone, _ = bench().answer(chat(question), num_predict=length)
        assert_same_or_a_close_call(load(), chat(question), alone, late.text[number])


def test_a_prompt_longer_than_a_batch_is_computed_in_parts(bench, load):
    prompt = chat("Repeat after me: " + "red green blue " * 12)
    parts, _ = bench(256, 4, 16).answer(prompt)
    whole, _ = bench(256, 4, 64).answer(prompt)
    assert_same_or_a_close_call(load(), prompt, whole, parts)


def test_a_prompt_may_fill_the_whole_batch(bench):
    exact = bench(256, 4, 16)
    prompt = exact.model.tokenize(chat("What is the sun, and what is the moon?"), add_special=True)[:16]
    _, finish = exact.answer(prompt, num_predict=2)
    assert exact.model.sizes == [16, 1]
    assert (finish.prompt_count, finish.eval_count) == (16, 2)


def test_two_long_prompts_take_turns(bench):
    both = bench(256, 4, 16)
    numbers = [both.submit(chat(f"{word} " * 30), num_predict=1) for word in ("red", "blue")]
    both.step()
    both.step()
    assert all(both.slots[slot] for slot in (0, 1))
    both.finish()
    assert sorted(both.finished) == numbers


def test_an_answer_goes_on_at_every_step_while_a_long_prompt_is_read(bench):
    shared = bench(256, 4, 16)
    writer = shared.submit(chat(QUESTIONS[0]), num_predict=20, sampling=Sampling(seed=1))
    while writer not in shared.text:
        shared.step()
    (sequence,) = shared.batcher._running
    reader = shared.submit("word " * 60, num_predict=1)
    while reader not in shared.finished:
        before = sequence.eval_count
        shared.step()
        assert sequence.eval_count == before + 1
    assert shared.model.sizes.count(16) >= 3


def test_a_batch_has_a_row_for_every_answer_however_small_it_is_asked_to_be(bench, load):
    narrow = bench(256, 4, 2)
    prompts = [chat(question) for question in QUESTIONS[:4]]
    numbers = [narrow.submit(prompt, num_predict=4) for prompt in prompts]
    narrow.finish()
    assert max(narrow.model.sizes) == narrow.model.num_batch == 4
    for number, prompt in zip(numbers, prompts, strict=True):
        alone, _ = bench(256, 4, 64).answer(prompt, num_predict=4)
        assert_same_or_a_close_call(load(256, 4, 64), prompt, alone, narrow.text[number])


def test_running_answers_do_not_keep_a_prompt_waiting(bench):
    narrow = bench(256, 4, 2)
    long = [narrow.submit(chat("Hi"), num_predict=40, sampling=Sampling(seed=1)) for _ in range(3)]
    while len(narrow.first) < 3:
        narrow.step()
    late = narrow.submit(chat("Yes"), num_predict=1)
    narrow.finish()
    assert list(narrow.finished).index(late) == 0
    assert sorted(narrow.finished) == [*long, late]


# -- reuse of what is cached ----------------------------------------------------------------------------------------


def test_the_same_prompt_again_computes_its_last_token_only(bench, load):
    twice = bench()
    first, before = twice.answer(chat(QUESTIONS[0]))
    batches = len(twice.model.sizes)
    second, after = twice.answer(chat(QUESTIONS[0]))
    assert before.cached_count == 0
    assert after.cached_count == after.prompt_count - 1 == before.prompt_count - 1
    assert twice.model.sizes[batches] == 1
    assert_same_or_a_close_call(load(), chat(QUESTIONS[0]), first, second)


def test_the_longest_common_beginning_is_not_computed_again(bench, load):
    talk = bench()
    text, _ = talk.answer(chat(QUESTIONS[0]))
    talk.answer("Something else", num_predict=1)
    follow_up = chat(QUESTIONS[0]) + text + "<|im_end|>\n" + chat("Why?")
    again, finish = talk.answer(follow_up)
    known = talk.model.tokenize(chat(QUESTIONS[0]) + text, add_special=True)
    # The answer's last token was sampled and never computed.
    assert finish.cached_count == len(known) - 1
    fresh, _ = bench().answer(follow_up)
    assert_same_or_a_close_call(load(), follow_up, fresh, again)


def test_without_a_common_beginning_the_slot_used_longest_ago_is_taken(bench):
    slots = bench(256, 4, 64)
    words = ["Apple", "Bird", "Cloud", "Dog", "Egg"]
    for word in words:
        _, finish = slots.answer(word + " pie", num_predict=1)
        assert finish.cached_count == 0
    kept = [slots.model.detokenize(tokens) for tokens in slots.slots]
    assert kept == ["Egg pie", "Bird pie", "Cloud pie", "Dog pie"]


def test_a_busy_slot_is_not_reused(bench):
    same = bench()
    numbers = [same.submit(chat(QUESTIONS[0])) for _ in range(2)]
    same.finish()
    assert [same.finished[number].cached_count for number in numbers] == [0, 0]
    assert same.text[numbers[0]] == same.text[numbers[1]]


def test_a_model_that_cannot_go_back_reads_the_whole_prompt_again(bench):
    recurrent = bench(wrapper=ForgetsAll)
    first, _ = recurrent.answer(chat(QUESTIONS[0]))
    second, finish = recurrent.answer(chat(QUESTIONS[0]))
    assert finish.cached_count == 0
    assert first == second


# -- where answers end ----------------------------------------------------------------------------------------------


def test_an_answer_has_at_most_num_predict_tokens(bench):
    _, finish = bench().answer(chat(QUESTIONS[0]), num_predict=3)
    assert (finish.reason, finish.eval_count) == ("length", 3)


def test_an_answer_ends_where_the_model_ends_it(bench):
    # The system message that the model was trained with: it knows then when it is done.
    system = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    text, finish = bench().answer(system + chat("Hi"), num_predict=100)
    assert finish.reason == "stop"
    assert finish.eval_count < 100
    assert "<|im_end|>" not in text


def test_a_stop_string_ends_the_answer_before_itself(bench):
    plain, _ = bench().answer(chat(QUESTIONS[0]), num_predict=8)
    stop = plain[4:9]
    text, finish = bench().answer(chat(QUESTIONS[0]), num_predict=8, stop=("never said", stop))
    assert text == plain.split(stop)[0]
    assert finish.reason == "stop"


def test_an_empty_stop_string_ends_the_answer_without_text(bench):
    text, finish = bench().answer(chat(QUESTIONS[0]), stop=("",))
    assert (text, finish.reason) == ("", "stop")


def test_a_seed_repeats_an_answer(bench):
    options = {"num_predict": 8, "sampling": Sampling(seed=7, temperature=1.5, top_k=0, top_p=1.0)}
    assert bench().answer(chat(QUESTIONS[0]), **options)[0] == bench().answer(chat(QUESTIONS[0]), **options)[0]


def test_a_prompt_without_tokens_is_an_error(bench):
    empty = bench()
    number = empty.submit("")
    other = empty.submit(chat(QUESTIONS[0]))
    empty.finish()
    assert empty.failed == {number: "Failed to create new sequence: no input provided\n"}
    assert other in empty.finished


# -- prompts that are too long ----------------------------------------------------------------------------------------


def test_a_prompt_that_is_too_long_loses_its_middle_and_says_how_much(bench):
    short = bench(32, 2, 64)
    prompt = list(range(100, 150))
    _, finish = short.answer(prompt, num_predict=1, num_keep=5)
    assert (finish.prompt_count, finish.dropped_count) == (32, 18)
    assert short.slots[0] == prompt[:5] + prompt[-27:]


def test_a_prompt_that_may_not_be_cut_is_refused(bench):
    short = bench(32, 2, 64)
    refused = short.submit(list(range(100, 133)), truncate=False)
    short.finish()
    assert short.failed == {refused: PROMPT_TOO_LONG}
    assert short.status == {refused: 400}
    assert short.model.sizes == []


def test_a_prompt_that_may_not_be_cut_is_refused_while_all_slots_are_busy(bench):
    full = bench(32, 1, 64)
    writer = full.submit("word", num_predict=4, sampling=Sampling(seed=1))
    full.step()
    refused = full.submit(list(range(100, 133)), truncate=False)
    full.step()
    assert list(full.failed) == [refused]
    full.finish()
    assert list(full.finished) == [writer]


@pytest.mark.parametrize("truncate", [False, True])
def test_a_prompt_may_fill_the_whole_context(bench, truncate):
    _, finish = bench(32, 2, 64).answer(list(range(100, 132)), num_predict=1, truncate=truncate)
    assert (finish.prompt_count, finish.dropped_count) == (32, 0)


# -- full contexts -------------------------------------------------------------------------------------------------


def test_an_answer_goes_on_past_the_end_of_its_context(bench):
    full = bench(32, 2, 64)
    prompt = chat("Tell me a story about a cat.")
    text, finish = full.answer(prompt, num_predict=60, sampling=Sampling(seed=3), num_keep=4)
    assert finish.prompt_count + finish.eval_count > 2 * 32
    assert len(text) > 0
    assert full.slots[0][:4] == full.model.tokenize(prompt, add_special=True)[:4]


def test_a_shift_drops_half_of_what_is_not_kept(bench):
    full = bench(32, 2, 64)
    prompt = full.model.tokenize("one two three four five six " * 10, add_special=True)[:32]
    full.submit(prompt, num_predict=2, num_keep=5)
    full.step()
    assert full.slots[0] == prompt
    (sequence,) = full.batcher._running
    (sampled,) = sequence.pending
    full.step()
    # Ollama's rule for (ctx, keep) = (32, 5): 13 tokens behind the first 5 go.
    assert full.slots[0] == [*prompt[:5], *prompt[18:], sampled]


def test_two_answers_shift_independently(bench, load):
    pair = bench(32, 2, 64)
    numbers = [pair.submit(chat(question), num_predict=40) for question in ("Tell me a story.", "Count.")]
    pair.finish()
    assert sorted(pair.finished) == numbers
    assert all(finish.reason in {"length", "stop"} for finish in pair.finished.values())


@pytest.mark.parametrize("num_keep", [-1, 0, 4, 31, 1000])
def test_a_prompt_longer_than_the_context_loses_its_middle(bench, num_keep):
    full = bench(32, 2, 64)
    prompt = full.model.tokenize("red orange yellow green blue violet " * 20, add_special=True)
    number = full.submit(prompt, num_keep=num_keep, num_predict=3)
    full.step()
    keep = 31 if num_keep < 0 else min(num_keep, 31)
    assert full.slots[0] == prompt[:keep] + prompt[keep - 32 :]
    full.finish()
    assert full.finished[number].prompt_count == 32
    assert full.finished[number].eval_count == 3


@pytest.mark.parametrize("length", [31, 32])
def test_a_prompt_may_fill_the_context_exactly(bench, length):
    full = bench(32, 2, 64)
    prompt = full.model.tokenize("sun moon and stars " * 20, add_special=True)[:length]
    _, finish = full.answer(prompt, num_predict=4)
    assert (finish.prompt_count, finish.eval_count) == (length, 4)


@pytest.mark.parametrize("num_keep", [-1, 0, 3, 4])
@pytest.mark.parametrize("can_shift", [True, False])
def test_the_smallest_context_still_answers(bench, num_keep, can_shift):
    tiny = bench(4, 1, 4, can_shift=can_shift)
    prompt = tiny.model.tokenize("The cat sat on the mat and", add_special=True)
    _, finish = tiny.answer(prompt, num_predict=10, num_keep=num_keep)
    assert (finish.prompt_count, finish.eval_count) == (4, 10)


@pytest.mark.parametrize(("wrapper", "changed"), [(Watched, {"can_shift": False}), (ForgetsAll, {"can_shift": True})])
def test_a_model_that_cannot_shift_computes_the_rest_again(bench, load, wrapper, changed):
    fixed = bench(32, 2, 16, wrapper=wrapper, **changed)
    prompt = fixed.model.tokenize("one two three four five six " * 10, add_special=True)[:30]
    number = fixed.submit(prompt, num_predict=12, num_keep=5)
    fixed.finish()
    assert fixed.finished[number].eval_count == 12
    # What a fresh reading of the same tokens finds likeliest is what was sampled behind them.
    held = fixed.slots[0]
    assert held[:5] == prompt[:5]
    assert len(held) < 32
    last = fixed.text[number]
    fresh, _ = bench(32, 2, 16).answer(held, num_predict=1)
    assert last.endswith(fresh)


@pytest.mark.parametrize("num_keep", [0, 4])
def test_a_shift_is_never_interrupted(bench, num_keep):
    """llama.cpp turns the keys of a shifted cache a second time if it was stopped while it turned them."""

    def text_beside_a_cancelled_prompt(*, in_mid_decode: bool) -> str:
        full = bench(32, 2, 64)
        writer = full.submit("one two three four five six seven", num_predict=40, num_keep=num_keep)
        while len(full.slots[0]) < 32:
            full.step()
        late = full.submit(chat("Hello"))
        decode = full.model.decode

        def cancel_then_decode(batch: Batch) -> None:
            # The reader thread, at the worst moment.
            full.batcher.cancel(late)
            decode(batch)

        if in_mid_decode:
            full.model.decode = cancel_then_decode
        full.step()
        assert len(full.slots[0]) < 32
        full.model.decode = decode
        full.batcher.cancel(late)
        full.finish()
        assert full.model.aborted == 0
        assert late not in full.finished
        return full.text[writer]

    assert text_beside_a_cancelled_prompt(in_mid_decode=True) == text_beside_a_cancelled_prompt(in_mid_decode=False)


@pytest.mark.parametrize("length", [20, 31, 32, 50])
def test_an_answer_whose_context_may_not_be_shifted_ends_where_it_is_full(bench, length):
    full = bench(32, 2, 64)
    prompt = full.model.tokenize("red orange yellow green blue violet " * 20, add_special=True)[:length]
    number = full.submit(prompt, num_predict=40, shift=False)
    full.finish()
    finish = full.finished[number]
    # The last token is said; only what would follow it needs a place.
    assert (finish.reason, finish.prompt_count + finish.eval_count) == ("length", 33)
    assert full.slots[0][: min(length, 4)] == prompt[: min(length, 4)]
    assert len(full.slots[0]) == 32


# -- bias -------------------------------------------------------------------------------------------------------------


def test_a_token_can_be_banned_and_another_forced(bench):
    plain, _ = bench().answer(chat(QUESTIONS[0]), num_predict=3)
    biased = bench()
    first, *_ = biased.model.tokenize(plain, add_special=False)
    (forced,) = biased.model.tokenize(" cat", add_special=False)
    without, _ = biased.answer(chat(QUESTIONS[0]), num_predict=3, sampling=bias({first: -100}))
    only, _ = biased.answer(chat(QUESTIONS[0]), num_predict=3, sampling=bias({forced: 100}))
    assert not without.startswith(biased.model.piece(first).decode())
    assert only == " cat cat cat"


def bias(tokens: dict[int, float]) -> Sampling:
    return Sampling(temperature=0, repeat_penalty=1.0, logit_bias=tokens)


# -- cancelling -----------------------------------------------------------------------------------------------------


def test_a_waiting_request_can_be_cancelled(bench):
    crowd = bench(32, 2, 64)
    numbers = [crowd.submit("one two three", num_predict=4) for _ in range(3)]
    crowd.step()
    crowd.batcher.cancel(numbers[2])
    crowd.finish()
    assert sorted(crowd.finished) == numbers[:2]
    assert numbers[2] not in crowd.text


def test_a_request_can_be_cancelled_before_it_was_seen(bench):
    quick = bench()
    number = quick.submit(chat(QUESTIONS[0]))
    quick.batcher.cancel(number)
    quick.finish()
    assert quick.finished == quick.text == {}


def test_an_answer_can_be_cancelled_while_it_is_given(bench):
    broken_off = bench()
    number = broken_off.submit(chat(QUESTIONS[0]), num_predict=50)
    for _ in range(4):
        broken_off.step()
    said = broken_off.text[number]
    broken_off.batcher.cancel(number)
    broken_off.finish()
    assert broken_off.text[number] == said
    assert number not in broken_off.finished
    # What was computed stays, and serves who asks the same.
    _, finish = broken_off.answer(chat(QUESTIONS[0]), num_predict=1)
    assert finish.cached_count == finish.prompt_count - 1


def test_a_cancel_stops_no_decode_but_that_of_its_own_prompt(bench):
    shared = bench()
    writer = shared.submit(chat(QUESTIONS[0]), num_predict=4)
    shared.step()
    reader = shared.submit(chat(QUESTIONS[1]), num_predict=4)
    decode = shared.model.decode

    def cancel_then_decode(batch: Batch) -> None:
        shared.batcher.cancel(writer)
        decode(batch)

    shared.model.decode = cancel_then_decode
    shared.step()
    shared.model.decode = decode
    shared.finish()
    assert shared.model.aborted == 0
    assert list(shared.finished) == [reader]


def test_a_cancel_between_two_decodes_stops_neither(bench):
    shared = bench()
    cancelled = shared.submit(chat(QUESTIONS[0]))
    writer = shared.submit(chat(QUESTIONS[1]), num_predict=3)
    shared.step()
    shared.batcher.cancel(cancelled)
    shared.batcher._receive()
    # Stepped without the loop's own clearing of the flag.
    shared.batcher.step()
    shared.check()
    shared.finish()
    assert shared.model.aborted == 0
    assert list(shared.finished) == [writer]


def test_cancelling_what_is_over_or_never_was_changes_nothing(bench):
    done = bench()
    number = done.submit(chat(QUESTIONS[0]), num_predict=1)
    done.finish()
    done.batcher.cancel(number)
    done.batcher.cancel(99)
    text, _ = done.answer(chat(QUESTIONS[1]), num_predict=2)
    assert text


class Loop:
    """A batcher whose own ``run`` computes in a thread, as in a model's process."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._changed = threading.Condition()
        receive = bench.receive

        def send(message: Step | Failed) -> None:
            with self._changed:
                receive(message)
                self._changed.notify_all()

        bench.batcher._send = send
        self.thread = threading.Thread(target=bench.batcher.run)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.bench.batcher.stop()
        self.thread.join(60)
        assert not self.thread.is_alive()

    def wait_for(self, condition: Any) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, 120)


def begin_of_decode(model: Watched, size: int) -> threading.Event:
    """Set when a batch of at least ``size`` tokens begins to be computed."""
    begun = threading.Event()
    decode = model.decode

    def watched(batch: Batch) -> None:
        if batch.size >= size:
            begun.set()
        decode(batch)

    model.decode = watched
    return begun


def test_a_cancel_interrupts_the_computing_of_a_long_prompt_and_harms_no_one(bench, load):
    shared = bench(256, 2, 256)
    begun = begin_of_decode(shared.model, 200)
    with Loop(shared) as loop:
        writer = shared.submit(chat(QUESTIONS[0]), num_predict=12)
        loop.wait_for(lambda: writer in shared.text)
        long = shared.submit("word " * 220)
        assert begun.wait(60)
        # Well inside the decode: a prompt of 220 tokens takes this model a good part of a second.
        time.sleep(0.05)
        shared.batcher.cancel(long)
        loop.wait_for(lambda: writer in shared.finished)
    assert shared.model.aborted == 1
    assert long not in shared.text
    shared.check()
    alone, _ = bench(256, 2, 256).answer(chat(QUESTIONS[0]), num_predict=12)
    assert_same_or_a_close_call(load(256, 2, 256), chat(QUESTIONS[0]), alone, shared.text[writer])


def test_the_loop_ends_in_the_middle_of_a_decode(bench):
    ending = bench(256, 2, 256)
    begun = begin_of_decode(ending.model, 200)
    with Loop(ending) as loop:
        ending.submit("word " * 220)
        assert begun.wait(60)
        time.sleep(0.05)
        ending.batcher.stop()
        loop.thread.join(60)
    assert ending.model.aborted == 1
    assert ending.finished == {}


@pytest.mark.parametrize("after_computing", [False, True])
@pytest.mark.parametrize("wrapper", [Watched, ForgetsAll])
def test_an_abort_loses_nothing_whatever_was_computed_by_then(bench, wrapper, after_computing, load):
    shared = bench(256, 4, 16, wrapper=wrapper, after_computing=after_computing)
    prompts = [chat(question) for question in QUESTIONS[:3]]
    numbers = [shared.submit(prompt, num_predict=4) for prompt in prompts]
    # At the first batch, twice in a row, and again while all of them answer.
    shared.model.fail = [AbortedError(), None, AbortedError(), AbortedError(), None, None, AbortedError()]
    shared.finish()
    for number, prompt in zip(numbers, prompts, strict=True):
        alone, finish = bench(256, 4, 16).answer(prompt, num_predict=4)
        assert_same_or_a_close_call(load(256, 4, 16), prompt, alone, shared.text[number])
        assert shared.finished[number].eval_count == finish.eval_count
        assert shared.finished[number].prompt_count == finish.prompt_count


# -- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after_computing", [False, True])
def test_a_failed_batch_fails_its_requests_and_frees_their_slots(bench, load, after_computing):
    broken = bench(256, 2, 64, after_computing=after_computing)
    numbers = [broken.submit(chat(question)) for question in QUESTIONS[:3]]
    broken.step()
    broken.model.fail = [DecodeError("llama_decode failed with status -3")]
    broken.finish()
    text = "an error was encountered while running the model: llama_decode failed with status -3"
    assert broken.failed == {numbers[0]: text, numbers[1]: text}
    assert list(broken.finished) == [numbers[2]]
    alone, _ = bench(256, 2, 64).answer(chat(QUESTIONS[2]))
    assert_same_or_a_close_call(load(256, 2, 64), chat(QUESTIONS[2]), alone, broken.text[numbers[2]])


def test_a_request_that_is_not_in_the_failed_batch_goes_on(bench):
    partial = bench(256, 2, 16)
    long = partial.submit("word " * 40, num_predict=2)
    partial.step()
    short = partial.submit("word " * 30, num_predict=2)
    partial.model.fail = [DecodeError("broken")]
    partial.finish()
    assert len(partial.failed) == 1
    assert set(partial.failed) | set(partial.finished) == {long, short}
