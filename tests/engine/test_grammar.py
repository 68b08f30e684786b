"""Which tokens a grammar lets through, in a real vocabulary, and which grammars are refused."""

import random
import re
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_nb.engine.grammar import MAX_GRAMMAR, Grammars, InvalidGrammarError
from ollama_nb.engine.sampling import ConstraintError
from ollama_nb.engine.trial import in_deep_thread, one_line
from ollama_nb.engine.vocabulary import Tokenizers


@pytest.fixture(scope="module")
def model(_loaded):
    return _loaded(4, 1, 4)


@pytest.fixture(scope="module")
def grammars(model):
    return Grammars(model)


def token_of(model, text: str) -> int:
    (token,) = model.tokenize(text, add_special=False)
    return token


def pieces(model, mask) -> set[bytes]:
    return {model.piece(int(token)) for token in mask.allowed}


def written_by_chance(model, mask, chance: random.Random, longest: int = 200) -> bytes:
    """What a model without any sense writes."""
    text = b""
    for _ in range(longest):
        token = int(chance.choice(mask.allowed))
        if mask.is_complete or model.is_end(token):
            return text
        text += model.piece(token)
        mask.accept(token)
    raise AssertionError(f"no end after {longest} tokens: {text!r}")


# -- what may come next --------------------------------------------------------------------------------------------


def test_every_end_of_the_model_is_allowed_where_the_grammar_may_end_and_nowhere_else(model, grammars):
    mask = grammars.compile("start: /ab+/")
    assert not model.ends.intersection(mask.allowed)
    mask.accept(token_of(model, "a"))
    assert not model.ends.intersection(mask.allowed)
    mask.accept(token_of(model, "b"))
    assert model.ends < set(mask.allowed)
    assert not mask.is_complete


def test_a_grammar_that_can_only_end_is_complete(model, grammars):
    mask = grammars.compile('start: "a" | "b"')
    assert not mask.is_complete
    mask.accept(token_of(model, "b"))
    assert mask.is_complete
    assert set(mask.allowed) == model.ends
    mask.accept(min(model.ends))
    assert mask.is_complete


def test_a_grammar_of_nothing_is_complete_before_it_begins(model, grammars):
    mask = grammars.compile('start: ""')
    assert mask.is_complete
    assert set(mask.allowed) == model.ends


def test_a_model_without_ends_ends_where_nothing_can_follow(model):
    endless = SimpleNamespace(
        num_vocab=model.num_vocab,
        ends=frozenset(),
        piece=model.piece,
        tokenize=model.tokenize,
        is_control=model.is_control,
        is_added=model.is_added,
    )
    mask = Grammars(endless).compile("start: /a?b/")
    mask.accept(token_of(model, "a"))
    assert pieces(model, mask) == {b"b"}
    mask.accept(token_of(model, "b"))
    assert mask.is_complete
    assert not len(mask.allowed)


def test_two_answers_with_the_same_grammar_do_not_meet(model, grammars):
    one, other = grammars.compile("start: /ab/"), grammars.compile("start: /ab/")
    one.accept(token_of(model, "ab"))
    assert one.is_complete
    assert not other.is_complete
    assert token_of(model, "a") in other.allowed or token_of(model, "ab") in other.allowed


def test_a_token_that_is_not_allowed_is_an_error(model, grammars):
    mask = grammars.compile("start: /ab/")
    with pytest.raises(ConstraintError, match="doesn't satisfy the grammar"):
        mask.accept(token_of(model, "z"))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["[a-c]{1,5}", "(x|yz)+ !?", "[0-9]{2}:[0-9]{2}", "(é|🪿|中){3}"]))
def test_whatever_is_written_by_chance_fits_the_grammar(model, grammars, seed, regex):
    text = written_by_chance(model, grammars.compile(f"start: /{regex}/"), random.Random(seed))
    assert re.fullmatch(regex, text.decode())


# -- special tokens ------------------------------------------------------------------------------------------------


def test_a_special_token_is_no_text_unless_the_grammar_has_its_name(model, grammars):
    mask = grammars.compile("start: /[^x]+/")
    control = {token for token in range(model.num_vocab) if model.is_control(token)} - model.ends
    assert len(control) > 10
    assert not control.intersection(mask.allowed)


def test_a_special_token_that_is_named_is_the_only_way(model, grammars):
    mask = grammars.compile('start: <file_sep> "x"')
    assert list(mask.allowed) == [token_of(model, "<file_sep>")]


def test_a_special_token_within_quotes_is_the_same_as_its_letters(model, grammars):
    mask = grammars.compile('start: "<file_sep>x" | "<files>"')
    assert token_of(model, "<file_sep>") in mask.allowed
    assert b"<" in pieces(model, mask)
    mask.accept(token_of(model, "<file_sep>"))
    assert pieces(model, mask) == {b"x"}


def test_text_that_the_grammar_demands_is_written_as_the_model_would_read_it(model, grammars):
    mask = grammars.compile('start: "<file_sep>Hello world"')
    tokens = []
    while not mask.is_complete:
        (token,) = mask.allowed
        tokens.append(int(token))
        mask.accept(tokens[-1])
    assert tokens == model.tokenize("<file_sep>Hello world", add_special=False)


def test_letters_that_only_happen_to_be_a_special_token_are_letters(model, grammars):
    mask = grammars.compile('start: "<file" "_sep>"')
    special = token_of(model, "<file_sep>")
    text = b""
    while not mask.is_complete:
        assert special not in mask.allowed
        text += model.piece(int(mask.allowed[0]))
        mask.accept(int(mask.allowed[0]))
    assert text == b"<file_sep>"


THOUGHT = """start: THOUGHT "x"
THOUGHT: (ANY & ~(ANY MARK ANY)) "<file_sep>"
ANY: /(?s:.*)/
MARK: "<file_sep>"
"""


@pytest.mark.parametrize("parse_special", [True, False])
def test_free_text_ends_by_one_special_token_or_by_the_same_letters(model, grammars, parse_special):
    closing = model.tokenize("<file_sep>", add_special=False, parse_special=parse_special)
    assert (len(closing) == 1) is parse_special
    mask = grammars.compile(THOUGHT)
    others = {token for token in range(model.num_vocab) if model.is_control(token)} - {token_of(model, "<file_sep>")}
    for token in [*model.tokenize("Hm <file. \n", add_special=False), *closing]:
        assert not others.intersection(mask.allowed)
        assert token in mask.allowed
        mask.accept(token)
    assert pieces(model, mask) == {b"x"}


@pytest.mark.parametrize(
    ("grammar", "ids", "named"),
    [
        ("start: /x/", {0, 1, 2}, []),
        ('start: "[CALL]"', {0, 2}, []),
        ('start: "a [CALL] b" | "c"', {0, 2}, []),
        ('start: "\\"[CALL]"', {0, 2}, []),
        ("start: <mark>", {0, 1, 2}, ["<mark>"]),
        ('start: <mark> "<mark>"', {0, 1, 2}, ["<mark>"]),
        ('start: "<mark>" "x"', {0, 1}, []),
        ("start: <tool>", {0, 1, 2, 3}, ["<tool>"]),
        ('start: "<tool>"', {0, 1, 2}, []),
        ('start: "<end>"', {0, 1, 2}, []),
        ('start: %json {"const": "[CALL]"}', {0, 2}, []),
    ],
)
def test_what_a_grammar_says_of_special_tokens(grammar, ids, named):
    texts = [b"<end>", b"[CALL]", b"<mark>", b"<tool>", b"x"]
    model = SimpleNamespace(
        num_vocab=5,
        ends=frozenset({0}),
        piece=texts.__getitem__,
        is_control=lambda token: token in (0, 1, 2),
        is_added=lambda token: token == 3,
    )
    special = Tokenizers(model).special_tokens(grammar)
    assert special.ids == ids
    assert special.named == named


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ("start: (((", r"1\(11\): Expected token '\)'"),
        ("start: foo", 'unknown name: "foo"'),
        ('foo: "a"', "no start rule found"),
        ("start: <nowhere>", 'unknown special token: "<nowhere>"$'),
        ('start: "a" <|im_end|>', 'unknown special token: "<|im_end|>"$'),
        ('start: %json {"type": "nothing"}', "nothing"),
        ("start: %json {", "failed to parse"),
        ("start: /a{/", "regex"),
        ('start: "\x00"', "lexer error"),
        ("\n", "no start rule found|[Ee]mpty"),
        ("start: " + "(" * 5000 + '"a"' + ")" * 5000, "too deeply nested"),
        ("start: " + " | ".join(f'"w{number}"' for number in range(4000)), "Current row has 4001 items"),
        ("start: /((a{1000}){1000}){1000}/", "too many expressions"),
        ("x" * (MAX_GRAMMAR + 1), "it has 1048577 characters, more than 1048576"),
    ],
    ids=range(14),
)
def test_a_grammar_that_does_not_compile_is_refused_in_one_line(grammars, grammar, reason):
    with pytest.raises(InvalidGrammarError, match=rf"^invalid grammar: .*({reason})") as caught:
        grammars.compile(grammar)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


ENDLESS = "start: A\nA: " + " & ".join(f"/.*x.{{{number}}}y.*/" for number in range(100))
"""An intersection that would take llguidance years, within all of its limits."""


def test_a_grammar_that_would_never_compile_is_given_up(grammars):
    with pytest.raises(InvalidGrammarError, match="it takes too long to compile"):
        grammars.compile(ENDLESS)


def test_a_machine_without_limits_gives_up_too(grammars, monkeypatch):
    monkeypatch.setattr("ollama_nb.engine.trial.PATIENCE", 1.0)
    with pytest.raises(InvalidGrammarError, match="it takes too long to compile"):
        grammars.compile(ENDLESS)


def test_rules_that_refer_to_each_other_too_deeply_harm_nobody(grammars):
    names = (f"r{number}: r{number + 1}" for number in range(60_000))
    with pytest.raises(InvalidGrammarError, match="it is too large or nested too deeply"):
        grammars.compile("start: r0\n" + "\n".join(names) + '\nr60000: "x"')


def test_rules_that_refer_to_each_other_deeply_are_compiled(model, grammars):
    names = (f"r{number}: r{number + 1}" for number in range(5000))
    mask = grammars.compile("start: r0\n" + "\n".join(names) + '\nr5000: "x"')
    assert pieces(model, mask) == {b"x"}


@pytest.mark.parametrize("program", ["ls", "false"])
def test_a_trial_that_breaks_is_no_verdict_in_favour(grammars, monkeypatch, program):
    monkeypatch.setattr("ollama_nb.engine.trial.sys", SimpleNamespace(executable=program))
    with pytest.raises(InvalidGrammarError, match=r"invalid grammar: \w"):
        grammars.compile('start: "never tried before"')


def test_an_error_in_a_deep_thread_is_an_error_here():
    with pytest.raises(ZeroDivisionError):
        in_deep_thread(lambda: 1 // 0)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("", ""),
        ("one\ntwo", "one"),
        ("\n one", "one"),
        ('unknown special token: "<a>"; following special tokens are available: <b>', 'unknown special token: "<a>"'),
        (
            "regex parse error:\n    a{\n     ^\nerror: unclosed counted repetition\n   1 | x",
            "regex parse error: unclosed counted repetition",
        ),
        ("x" * 400, "x" * 300 + "..."),
    ],
)
def test_what_is_said_of_a_grammar_is_one_line(said, line):
    assert one_line(said) == line


def test_a_grammar_is_tried_once(grammars, monkeypatch):
    grammars.compile('start: "once"')
    monkeypatch.setattr("ollama_nb.engine.grammar.verdict", lambda _: "never again")
    assert grammars.compile('start: "once"')
    with pytest.raises(InvalidGrammarError, match="never again"):
        grammars.compile('start: "twice"')
